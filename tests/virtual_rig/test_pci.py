"""The made PCI tree: what sysfs shows, and that a change of cards leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtual_rig import cards, pci, scenario
from virtual_rig.scenario import Card

RIG = scenario.read(Path(__file__).parent / "data" / "desktop.json")


def _entries(folder: Path) -> dict[str, str]:
    found = {}
    for parent, folders, names in os.walk(folder):
        for name in [*names, *folders]:
            path = Path(parent, name)
            key = path.relative_to(folder).as_posix()
            if path.is_symlink():
                found[key] = "-> " + os.readlink(path)
            elif path.is_file():
                found[key] = path.read_bytes().hex()
    return found


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """The rig's tree before any driver but nouveau."""
    pci.write_tree(tmp_path, pci.tree(RIG.present(), "nouveau"))
    return tmp_path


def test_cards_are_where_and_what_the_snapshot_says(sysfs: Path) -> None:
    card = sysfs / "bus/pci/devices/0000:05:00.0"
    read = {name: (card / name).read_text().strip() for name in ("vendor", "device", "class")}
    assert read == {"vendor": "0x10de", "device": "0x2484", "class": "0x030000"}
    assert (card / "current_link_width").read_text() == "1\n"
    assert (card / "max_link_speed").read_text() == "16.0 GT/s PCIe\n"
    assert (card / "driver").resolve() == (sysfs / "bus/pci/drivers/nouveau").resolve()
    assert card.resolve().parent.parent.name == "pci0000:00"


def test_one_card_is_the_firmware_s_screen(sysfs: Path) -> None:
    lit = [
        path.parent.name
        for path in sysfs.glob("bus/pci/devices/*/boot_vga")
        if path.read_text() == "1\n"
    ]
    assert lit == ["0000:01:00.0"]


def test_each_card_brings_a_sound_device_that_is_no_display(sysfs: Path) -> None:
    classes = [path.read_text().strip() for path in sysfs.glob("bus/pci/devices/*/class")]
    assert classes.count("0x030000") == 4
    assert classes.count("0x040300") == 4


def test_a_lost_card_reads_as_ones(tmp_path: Path) -> None:
    lost = cards.lose(RIG, "GPU-1e")
    pci.write_tree(tmp_path, pci.tree(lost.present(), "nvidia"))
    assert (tmp_path / "bus/pci/devices/0000:05:00.0/config").read_bytes() == b"\xff" * 256


def test_a_link_that_is_not_reported_has_no_file(tmp_path: Path) -> None:
    bare = Card(uuid="GPU-1", bus_id="0000:01:00.0", name="C", memory_total_bytes=1)
    pci.write_tree(tmp_path, pci.tree((bare,), None))
    card = tmp_path / "bus/pci/devices/0000:01:00.0"
    assert not (card / "current_link_width").exists()
    assert not (card / "driver").exists()


subsets = st.lists(st.sampled_from(RIG.present()), unique_by=lambda card: card.uuid)
drivers = st.sampled_from(["nouveau", "nvidia", None])


@settings(deadline=None, max_examples=25)
@given(subsets, drivers, subsets, drivers)
def test_a_changed_tree_is_a_new_tree(
    before: list[Card], driver: str | None, after: list[Card], new_driver: str | None
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        pci.write_tree(Path(one), pci.tree(before, driver))
        pci.write_tree(Path(one), pci.tree(after, new_driver))
        pci.write_tree(Path(other), pci.tree(after, new_driver))
        assert _entries(Path(one)) == _entries(Path(other))


def test_a_mounted_folder_stays_the_same_one(tmp_path: Path) -> None:
    kept = (pci.ROOT, "bus/pci", "module")
    pci.write_tree(tmp_path, pci.tree(RIG.present(), "nvidia"), kept)
    before = {path: (tmp_path / path).stat().st_ino for path in kept}
    pci.write_tree(tmp_path, {}, kept)
    assert {path: (tmp_path / path).stat().st_ino for path in kept} == before
