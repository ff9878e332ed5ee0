"""What a kernel would find on the box's disk when it boots: facts for `boot.py`."""

from __future__ import annotations

import gzip
import lzma
import re
from dataclasses import dataclass
from pathlib import Path

_LIBRARY_FOLDERS = ("usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/nvidia/current")
_MODPROBE_FOLDERS = ("usr/lib/modprobe.d", "run/modprobe.d", "etc/modprobe.d")
_MODULE_FILES = ("nvidia.ko*", "nvidia-current.ko*", "nvidia-current-open.ko*")
_LINKS_FOLLOWED = 10
_OPEN_DRIVERS = ("nouveau", "nova_core")
_VERSION = re.compile(rb"\0version=([^\0]+)\0")
_LIBRARY_VERSION = re.compile(r"libnvidia-ml\.so\.(\d+\.\d+[.\d]*)$")


@dataclass(frozen=True)
class Guest:
    """The box's disk as the boot sees it.

    `kernel`: the newest packaged kernel. `module_version`: of the NVIDIA module built for that
    kernel. `library_version`: of libnvidia-ml on the disk. `open_drivers`: which of nouveau and
    nova_core that kernel brings. `modprobe`: the lines of modprobe.d in the order that counts.
    """

    kernel: str | None = None
    module_version: str | None = None
    library_version: str | None = None
    open_drivers: tuple[str, ...] = ()
    modprobe: tuple[str, ...] = ()
    default_target: str = "graphical.target"
    display_manager: bool = False


def look(root: Path) -> Guest:
    """Read the facts from the box's root."""
    kernel = newest_kernel(root)
    modules = root / "usr/lib/modules" / kernel if kernel else None
    return Guest(
        kernel=kernel,
        module_version=_module_version(modules) if modules else None,
        library_version=library_version(root),
        open_drivers=_open_drivers(modules) if modules else (),
        modprobe=_modprobe_lines(root),
        default_target=_default_target(root),
        display_manager=(root / "etc/systemd/system/display-manager.service").is_symlink(),
    )


def newest_kernel(root: Path) -> str | None:
    """The newest kernel that has both an image and modules."""
    releases = [image.name.removeprefix("vmlinuz-") for image in root.glob("boot/vmlinuz-*")]
    with_modules = [name for name in releases if (root / "usr/lib/modules" / name).is_dir()]
    return max(with_modules, key=_by_version, default=None)


def library_version(root: Path) -> str | None:
    """The version of the libnvidia-ml that the packages put on the disk."""
    for folder in _LIBRARY_FOLDERS:
        for library in (root / folder).glob("libnvidia-ml.so.*"):
            found = _LIBRARY_VERSION.search(library.name)
            if found:
                return found.group(1)
    return None


def _by_version(release: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", release)]


def _module_version(modules: Path) -> str | None:
    for pattern in _MODULE_FILES:
        for module in modules.rglob(pattern):
            found = _VERSION.search(_unpacked(module))
            if found:
                return found.group(1).decode("ascii", "replace")
    return None


def _unpacked(module: Path) -> bytes:
    content = module.read_bytes()
    if module.suffix == ".xz":
        return lzma.decompress(content)
    return gzip.decompress(content) if module.suffix == ".gz" else content


def _open_drivers(modules: Path) -> tuple[str, ...]:
    drivers = modules / "kernel/drivers/gpu"
    found = {file.name.split(".ko")[0].replace("-", "_") for file in drivers.rglob("no*.ko*")}
    return tuple(name for name in _OPEN_DRIVERS if name in found)


def _modprobe_lines(root: Path) -> tuple[str, ...]:
    """As modprobe reads them: sorted by name, a file in /etc hides its namesakes elsewhere."""
    files: dict[str, Path] = {}
    for folder in _MODPROBE_FOLDERS:
        files |= {file.name: file for file in (root / folder).glob("*.conf")}
    lines: list[str] = []
    for name in sorted(files):
        file = inside(root, files[name])
        if file.is_file():
            lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def inside(root: Path, path: Path) -> Path:
    """What `path` is in the box: its symbolic links are followed below `root`, never out of it."""
    for _ in range(_LINKS_FOLLOWED):
        if not path.is_symlink():
            break
        target = path.readlink()
        path = root / target.relative_to("/") if target.is_absolute() else path.parent / target
    return path


def _default_target(root: Path) -> str:
    link = root / "etc/systemd/system/default.target"
    return link.readlink().name if link.is_symlink() else "graphical.target"
