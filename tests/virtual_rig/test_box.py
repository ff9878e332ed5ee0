"""Boxes: fresh, reachable, rebooting, and gone without a trace."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.virtual_rig import leftovers, within
from virtual_rig import BadInput, Box, cards, down, find, record, scenario, up
from virtual_rig.__main__ import main

DATA = Path(__file__).parent / "data"

# The first test of a suite may have to build its base image.
pytestmark = [pytest.mark.box, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def box(boxes: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A fresh box of each suite, with a desktop on its first card."""
    name = f"tvr-{request.param}"
    yield up(name, suite=request.param, cards=DATA / "desktop.json")
    down(name)


def _displays(box: Box) -> int:
    return int(within.run(box, "cat /sys/bus/pci/devices/*/class | grep -c 0x0300 || true"))


def test_it_is_a_minimal_debian_that_runs(box: Box) -> None:
    assert within.run(box, "systemctl is-system-running --wait") == "running"
    assert within.run(box, ". /etc/os-release; echo $VERSION_CODENAME") == box.suite
    assert within.run(box, "hostname") == box.name
    assert within.run(box, "command -v python3 || echo none") == "none"
    assert within.run(box, "ls /boot/initrd.img-*")


def test_both_people_log_in(box: Box) -> None:
    argv = box.ssh_command(["sudo -n id -u"])
    argv = [word.replace("root@", "rig@") for word in argv]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_nouveau_has_the_cards_of_a_fresh_install(box: Box) -> None:
    shown = within.run(box, "lspci -nnk 2>/dev/null")
    for model in ("10de:2206", "10de:2484", "10de:2503"):
        assert model in shown
    assert shown.count("Kernel driver in use: nouveau") == 4
    assert within.run(box, "cat /sys/module/nouveau/initstate") == "live"
    assert within.run(box, "cat /sys/bus/pci/devices/0000:01:00.0/boot_vga") == "1"


def test_its_desktop_is_there_to_be_turned_off(box: Box) -> None:
    assert within.run(box, "systemctl get-default") == "graphical.target"
    assert within.run(box, "systemctl is-active display-manager") == "active"


def test_it_reaches_the_mirror(box: Box) -> None:
    request = (
        f"exec 3<>/dev/tcp/{box.gateway_address}/8077; "
        "printf 'GET /apt/key.asc HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    )
    assert "BEGIN PGP PUBLIC KEY BLOCK" in within.run(box, f'bash -c "{request}"')


def test_a_reboot_keeps_the_disk_and_starts_the_clock(box: Box) -> None:
    within.run(box, "echo kept > /root/file")
    within.reboot(box)
    assert within.run(box, "cat /root/file") == "kept"


def test_cards_come_and_go_while_it_runs(box: Box) -> None:
    assert main(["cards", box.name, "take-out", "GPU-1e"]) == 0
    within.until(lambda: _displays(box) == 3)
    assert main(["cards", box.name, "put-in", "GPU-1e"]) == 0
    within.until(lambda: _displays(box) == 4)


def test_a_broken_edit_is_not_shown(box: Box) -> None:
    whole = box.scenario_path.read_text()
    log = box.scenario_path.with_name("supervisor.log")
    box.scenario_path.write_text(whole[:-20])
    within.until(lambda: "left as it was shown" in log.read_text())
    assert _displays(box) == 4
    box.scenario_path.write_text(whole)


def test_its_folder_is_its_owner_s_alone(box: Box) -> None:
    assert box.scenario_path.parent.stat().st_mode & 0o777 == 0o700


def test_its_name_is_taken(box: Box) -> None:
    with pytest.raises(BadInput, match="must be free"):
        up(box.name)


def test_it_is_found_and_listed(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert find(box.name) == box
    assert main(["list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["boxes"]
    assert (row["name"], row["phase"], row["address"]) == (box.name, "running", box.address)


def test_switched_off_and_on_it_keeps_disk_and_cards(box: Box) -> None:
    within.run(box, "echo kept > /root/file")
    subprocess.run(box.ssh_command(["systemctl poweroff"]), capture_output=True, check=False)
    within.until(lambda: find(box.name) is None)
    with scenario.editing(box.scenario_path) as edit:
        edit.scenario = cards.take_out(edit.scenario, "GPU-1e")
    again = up(box.name)
    assert again == box
    assert within.run(again, "cat /root/file") == "kept"
    assert _displays(again) == 3


def test_two_stand_side_by_side_and_leave_nothing(boxes: Path, tmp_path: Path) -> None:
    snapshot = Path(shutil.copy(DATA / "nvlink.json", tmp_path))
    pair = [up(name, cards=snapshot) for name in ("tvr-left", "tvr-right")]
    assert len({box.address for box in pair}) == 2
    assert [_displays(box) for box in pair] == [2, 2]
    numbers = {}
    for box in pair:
        there = record.read(boxes / box.name)
        assert there
        numbers[box.name] = there.number
        assert leftovers.of(boxes / box.name, there.number)
    assert down("tvr-left")
    assert _displays(pair[1]) == 2
    assert down("tvr-right")
    assert not down("tvr-right")
    assert [leftovers.of(boxes / name, number) for name, number in numbers.items()] == [[], []]
