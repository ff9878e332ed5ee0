"""What is read from a box's disk, on made ones."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from virtual_rig.guest import look

KERNEL = "6.1.0-56-amd64"


def _write(root: Path, path: str, content: bytes = b"") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A disk with one kernel, and nouveau in it."""
    _write(tmp_path, f"boot/vmlinuz-{KERNEL}")
    gpu = f"usr/lib/modules/{KERNEL}/kernel/drivers/gpu"
    _write(tmp_path, f"{gpu}/drm/nouveau/nouveau.ko")
    return tmp_path


def test_a_fresh_disk(root: Path) -> None:
    guest = look(root)
    assert guest.kernel == KERNEL
    assert guest.open_drivers == ("nouveau",)
    assert guest.module_version is None
    assert guest.library_version is None
    assert guest.default_target == "graphical.target"
    assert not guest.display_manager


def test_an_empty_disk(tmp_path: Path) -> None:
    assert look(tmp_path).kernel is None


def test_the_newest_kernel_counts_by_number(root: Path) -> None:
    for release in ("6.1.0-100-amd64", "6.1.0-9-amd64"):
        _write(root, f"boot/vmlinuz-{release}")
        (root / "usr/lib/modules" / release).mkdir(parents=True)
    assert look(root).kernel == "6.1.0-100-amd64"


def test_a_kernel_without_modules_does_not_count(root: Path) -> None:
    _write(root, "boot/vmlinuz-7.0.0-1-amd64")
    assert look(root).kernel == KERNEL


@pytest.mark.parametrize("name", ["nvidia.ko", "nvidia-current.ko", "nvidia-current-open.ko.xz"])
def test_the_version_of_the_built_module(root: Path, name: str) -> None:
    content = b"\x7fELF\0license=NVIDIA\0version=580.95.05\0srcversion=1\0"
    packed = lzma.compress(content) if name.endswith(".xz") else content
    _write(root, f"usr/lib/modules/{KERNEL}/updates/dkms/{name}", packed)
    assert look(root).module_version == "580.95.05"


def test_a_module_for_another_kernel_does_not_count(root: Path) -> None:
    _write(root, "usr/lib/modules/6.0.0-1-amd64/updates/dkms/nvidia.ko", b"\0version=580.95.05\0")
    assert look(root).module_version is None


@pytest.mark.parametrize("folder", ["", "nvidia/current/"])
def test_the_version_of_the_library(root: Path, folder: str) -> None:
    _write(root, f"usr/lib/x86_64-linux-gnu/{folder}libnvidia-ml.so.535.261.03")
    assert look(root).library_version == "535.261.03"


def test_modprobe_reads_in_order_and_etc_hides_the_rest(root: Path) -> None:
    _write(root, "usr/lib/modprobe.d/a.conf", b"# said\nblacklist one\n")
    _write(root, "usr/lib/modprobe.d/b.conf", b"blacklist hidden\n")
    _write(root, "etc/modprobe.d/b.conf", b"  blacklist two\n\n")
    assert look(root).modprobe == ("blacklist one", "blacklist two")


def test_links_are_followed_inside_the_disk(root: Path) -> None:
    _write(root, "etc/nvidia/modprobe.conf", b"blacklist nouveau\n")
    (root / "etc/alternatives").mkdir()
    (root / "etc/alternatives/nvidia").symlink_to("/etc/nvidia/modprobe.conf")
    (root / "etc/modprobe.d").mkdir()
    (root / "etc/modprobe.d/nvidia.conf").symlink_to("/etc/alternatives/nvidia")
    (root / "etc/modprobe.d/masked.conf").symlink_to("/dev/null")
    assert look(root).modprobe == ("blacklist nouveau",)


def test_the_display(root: Path) -> None:
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
    (units / "display-manager.service").symlink_to("/lib/systemd/system/gdm.service")
    guest = look(root)
    assert guest.default_target == "multi-user.target"
    assert guest.display_manager
