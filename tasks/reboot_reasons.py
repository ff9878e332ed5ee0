"""Pure: is the module built for the kernel that will boot, and does anything ask for a reboot."""

from __future__ import annotations

from tasks.facts import DisplayState, DriverState


def dkms_built(driver: DriverState, kernel: str) -> bool:
    """`dkms status` says `installed` for this kernel, and modinfo finds the module on disk."""
    built = any(
        module["module"].startswith("nvidia")
        and module["kernel"] == kernel
        and module["status"] == "installed"
        for module in driver["dkms"]
    )
    return built and driver["boot_module_version"] is not None


def reboot_reasons(
    driver: DriverState, display: DisplayState, modeset: bool | None = None
) -> list[str]:
    """Every state of the host that only a reboot mends, as sentences; empty means none.

    Judged from what is loaded and what is on disk, never from what a run changed: the run that
    changed it may have died before it could say so. A host without the driver on disk needs none.
    """
    on_disk, loaded = driver["boot_module_version"], driver["loaded_version"]
    if on_disk is None:
        return []
    reasons = []
    if driver["nouveau_loaded"]:
        reasons.append("nouveau holds the cards")
    if driver["nova_loaded"]:
        reasons.append("nova holds the cards")
    if loaded != on_disk:
        reasons.append(f"NVIDIA {on_disk} is on disk, {loaded or 'none'} is loaded")
    if modeset is not None and display["modeset"] not in (None, modeset):
        state = "on" if display["modeset"] else "off"
        reasons.append(f"kernel mode setting is {state}, the module options say otherwise")
    return reasons
