"""Shows a box its hardware: /sys, /proc and NVML from the scenario and what the boot decided."""

from __future__ import annotations

import shutil
from pathlib import Path

from virtual_rig import pci
from virtual_rig.boot import BootState
from virtual_rig.command import run
from virtual_rig.nvml import build
from virtual_rig.nvml.flat import Driver, flat
from virtual_rig.scenario import Card, Scenario, replace_file

_MOUNTED = (pci.ROOT, pci.BUS, f"{pci.BUS}/devices", f"{pci.BUS}/drivers", "module")
_LIBRARY_FOLDER = "usr/local/lib/virtual-rig"
_LOADER_CONFIGURATION = "etc/ld.so.conf.d/000-virtual-rig.conf"


def show_cards(
    folder: Path, scenario: Scenario, boot: BootState, library_version: str | None
) -> None:
    """The cards on the bus and in NVML; again after every change of the scenario."""
    cards = scenario.present()
    pci.write_tree(folder / "sys", {**pci.tree(cards, boot.driver), **_modules(boot)}, _MOUNTED)
    pci.write_tree(folder / "device/proc-driver", _proc_driver(cards, boot))
    text = flat(scenario, _driver(boot, library_version))
    replace_file(folder / "device/nvml.scenario", text)


def forget_settings(folder: Path) -> None:
    """What setters changed (power limits, clocks) is lost when a machine boots."""
    (folder / "device/nvml.scenario.state").unlink(missing_ok=True)


def bind_library(root: Path, wanted: bool) -> None:
    """Put the simulated library before the packages' own in the loader's path, or take it away.

    Not a mount over the packages' file: dpkg could then neither upgrade nor remove it.
    """
    configuration, library = root / _LOADER_CONFIGURATION, root / _LIBRARY_FOLDER / build.SONAME
    if wanted == library.exists():
        return
    if wanted:
        library.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(build.library(), library)
        library.chmod(0o755)
        configuration.write_text(f"/{_LIBRARY_FOLDER}\n", encoding="ascii")
    else:
        library.unlink()
        configuration.unlink(missing_ok=True)
    run(["chroot", root, "ldconfig"])


def _driver(boot: BootState, library_version: str | None) -> Driver:
    """Loaded, and of the version that is on the disk: an upgrade without a reboot is not."""
    if boot.nvidia_version is None:
        return Driver("not_loaded")
    if library_version is not None and library_version != boot.nvidia_version:
        return Driver("mismatch", boot.nvidia_version)
    return Driver("loaded", boot.nvidia_version, desktop=boot.desktop)


def _modules(boot: BootState) -> pci.Tree:
    """/sys/module: the graphics modules that this boot loaded."""
    if boot.driver is None:
        return {}
    names = [boot.driver, "drm"]
    files: dict[str, bytes | pci.Link] = {}
    if boot.nvidia_version is not None:
        names += ["nvidia_modeset", "nvidia_drm", "nvidia_uvm"]
        files["module/nvidia/version"] = f"{boot.nvidia_version}\n".encode()
        files["module/nvidia_drm/version"] = f"{boot.nvidia_version}\n".encode()
        for name, on in (("modeset", boot.modeset), ("fbdev", boot.fbdev)):
            files[f"module/nvidia_drm/parameters/{name}"] = b"Y\n" if on else b"N\n"
    for name in names:
        files[f"module/{name}/initstate"] = b"live\n"
        files[f"module/{name}/refcnt"] = b"0\n"
    return files


def _proc_driver(cards: tuple[Card, ...], boot: BootState) -> pci.Tree:
    """/proc/driver/nvidia, as the kernel module writes it."""
    version = boot.nvidia_version
    if version is None:
        return {}
    files: dict[str, bytes | pci.Link] = {
        "nvidia/version": (
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  (virtual rig)\n"
        ).encode()
    }
    for card in cards:
        lines = (
            f"Model: \t\t {card.name}\nGPU UUID: \t {card.uuid}\nBus Location: \t {card.bus_id}\n"
        )
        files[f"nvidia/gpus/{card.bus_id}/information"] = lines.encode()
    return files
