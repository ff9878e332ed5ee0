"""What the kernel decides at boot: pure, from what is on the disk to what is loaded.

A box shares this machine's kernel and can load no module. Instead, at each boot, this decides
what a kernel on a real machine would do with the cards, and the supervisor shows the outcome in
/sys, in /proc and through NVML.
"""

from __future__ import annotations

from dataclasses import dataclass

from virtual_rig.guest import Guest

_ON = {"1", "y", "Y"}
_NVIDIA_MODULES = ("nvidia", "nvidia_current", "nvidia_current_open")
_DRM_MODULES = ("nvidia_drm", "nvidia_current_drm", "nvidia_current_open_drm")
_MODESET_BY_DEFAULT_SINCE = 595
_FBDEV_BY_DEFAULT_SINCE = 570


@dataclass(frozen=True)
class BootState:
    """What is loaded after a boot, and why.

    `driver`: the kernel driver bound to the cards. `nvidia_version`: of the loaded module, None
    where it is not loaded. `modeset`, `fbdev`: nvidia-drm's parameters as sysfs shows them.
    `desktop`: a graphical session runs and holds the cards that drive a screen.
    """

    driver: str | None
    nvidia_version: str | None
    modeset: bool
    fbdev: bool
    desktop: bool
    reason: str


def boot(guest: Guest, has_cards: bool) -> BootState:
    """The outcome of a boot with this disk."""
    blocked, options = _modprobe(guest.modprobe)
    driver, reason = _driver(guest, blocked, has_cards)
    version = guest.module_version if driver == "nvidia" else None
    branch = int(version.split(".")[0]) if version else 0
    drm = {key: value for name in _DRM_MODULES for key, value in options.get(name, {}).items()}
    return BootState(
        driver=driver,
        nvidia_version=version,
        modeset=_switch(drm.get("modeset"), branch >= _MODESET_BY_DEFAULT_SINCE),
        fbdev=_switch(drm.get("fbdev"), branch >= _FBDEV_BY_DEFAULT_SINCE),
        desktop=guest.default_target == "graphical.target" and guest.display_manager,
        reason=reason,
    )


def _driver(guest: Guest, blocked: set[str], has_cards: bool) -> tuple[str | None, str]:
    """The first driver that can take the cards: the kernel's own ones are quicker than DKMS's."""
    if not has_cards:
        return None, "there is no card on the bus: no driver loads"
    for name in guest.open_drivers:
        if name not in blocked:
            return name, f"{name} took the cards: nothing in modprobe.d forbids it"
    if guest.module_version is None:
        return None, f"no NVIDIA module is built for the newest kernel, {guest.kernel}"
    if blocked.intersection(_NVIDIA_MODULES):
        return None, "modprobe.d forbids the NVIDIA module"
    return "nvidia", f"the NVIDIA module {guest.module_version} is built for {guest.kernel}"


def _modprobe(lines: tuple[str, ...]) -> tuple[set[str], dict[str, dict[str, str]]]:
    """Which modules must not load, and the options of the others; `-` and `_` are the same."""
    blocked: set[str] = set()
    options: dict[str, dict[str, str]] = {}
    for line in lines:
        word, *rest = line.split()
        if not rest:
            continue
        name = rest[0].replace("-", "_")
        if word == "blacklist" or (word in ("install", "alias") and _is_nothing(rest[1:])):
            blocked.add(name)
        elif word == "options":
            pairs = (part.split("=", 1) for part in rest[1:] if "=" in part)
            options.setdefault(name, {}).update({key: value for key, value in pairs})
    return blocked, options


def _is_nothing(words: list[str]) -> bool:
    return bool(words) and words[0] in ("off", "/bin/false", "/bin/true", "/usr/bin/false")


def _switch(value: str | None, default: bool) -> bool:
    return default if value is None else value in _ON
