"""From nouveau to NVML: the mirror's driver is really built and installed, then a reboot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.virtual_rig import within
from virtual_rig import Box, down, up
from virtual_rig.__main__ import main

DATA = Path(__file__).parent / "data"
VERSION = "580.95.05"
INSTALL = """\
set -e
export DEBIAN_FRONTEND=noninteractive
exec 3<>/dev/tcp/GATEWAY/8077
printf 'GET /apt/key.asc HTTP/1.0\\r\\n\\r\\n' >&3
sed '1,/^\\r$/d' <&3 > /etc/apt/driver.asc
echo 'deb [signed-by=/etc/apt/driver.asc] http://GATEWAY:8077/apt/ /' \\
    > /etc/apt/sources.list.d/driver.list
echo 'blacklist nouveau' > /etc/modprobe.d/driver.conf
apt-get update -q
apt-get install -qy --no-install-recommends linux-headers-amd64 \\
    nvidia-driver-pinning-580 nvidia-driver-cuda nvidia-kernel-open-dkms
"""
# The real nvidia-smi of Debian, unpacked beside the mirror's small one.
FETCH = """\
set -e
sed 's/ main / non-free /' /etc/apt/sources.list > /etc/apt/sources.list.d/non-free.list
apt-get update -q
cd /tmp && apt-get download -q nvidia-smi/"$1" && dpkg -x nvidia-smi_*.deb /opt/real
"""
REAL = "/opt/real/usr/lib/nvidia/current/nvidia-smi"

pytestmark = [pytest.mark.box, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def box(boxes: Path, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A box with the driver installed, before its reboot."""
    name = f"tvr-driver-{request.param}"
    fresh = up(name, suite=request.param, cards=DATA / "desktop.json")
    within.run(fresh, "bash -s", given=INSTALL.replace("GATEWAY", fresh.gateway_address))
    yield fresh
    down(name)


def test_the_driver_works_from_the_next_boot_on(box: Box) -> None:
    assert ": installed" in within.run(box, "dkms status")
    assert "couldn't communicate" in within.run(box, "nvidia-smi || [ $? = 9 ]")
    within.reboot(box)
    assert within.run(box, "nvidia-smi -L").count("UUID: GPU-") == 4
    assert within.run(box, "cat /sys/module/nvidia/version") == VERSION
    assert VERSION in within.run(box, "cat /proc/driver/nvidia/version")
    assert within.run(box, "lspci -k 2>/dev/null").count("in use: nvidia") == 4
    assert within.run(box, "systemctl is-active nvidia-persistenced") == "active"


def test_debian_s_own_nvidia_smi_runs(box: Box) -> None:
    within.run(box, f"bash -s {box.suite}", given=FETCH)
    table = within.run(box, REAL)
    assert "Xorg" in table
    query = "--query-gpu=name,memory.used,display_active --format=csv,noheader"
    first, *_ = within.run(box, f"{REAL} {query}").splitlines()
    assert first == "NVIDIA GeForce RTX 3080, 700 MiB, Enabled"
    within.run(box, f"{REAL} -i 1 -pl 150")
    shown = within.run(box, f"{REAL} -i 1 --query-gpu=power.limit --format=csv,noheader")
    assert shown == "150.00 W"


def test_a_lost_card_is_lost_in_nvml(box: Box) -> None:
    main(["cards", box.name, "lose", "GPU-1e"])
    within.until(lambda: "error 15" in within.run(box, "nvidia-smi -L || true"))
    main(["cards", box.name, "restore", "GPU-1e"])
    within.until(lambda: "error" not in within.run(box, "nvidia-smi -L || true"))


def test_a_library_of_another_version_is_a_mismatch(box: Box) -> None:
    folder = "/usr/lib/x86_64-linux-gnu"
    within.run(box, f"mv {folder}/libnvidia-ml.so.{VERSION} {folder}/libnvidia-ml.so.590.1.1")
    within.until(lambda: "version mismatch" in within.run(box, "nvidia-smi || true"))
    within.run(box, f"mv {folder}/libnvidia-ml.so.590.1.1 {folder}/libnvidia-ml.so.{VERSION}")
    within.until(lambda: "GPU 0" in within.run(box, "nvidia-smi || true"))


def test_headless_the_desktop_s_memory_is_free(box: Box) -> None:
    within.run(box, "systemctl set-default multi-user.target; systemctl disable --now gdm")
    within.reboot(box)
    used = within.run(box, f"{REAL} -i 0 --query-gpu=memory.used --format=csv,noheader")
    assert used == "0 MiB"
    # What a setter changed is lost when a machine boots.
    limit = within.run(box, f"{REAL} -i 1 --query-gpu=power.limit --format=csv,noheader")
    assert limit == "220.00 W"
