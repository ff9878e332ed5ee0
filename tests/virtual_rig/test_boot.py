"""What a boot decides, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virtual_rig.boot import boot
from virtual_rig.guest import Guest

FRESH = Guest(kernel="6.1.0-1-amd64", open_drivers=("nouveau",))
BLOCKED = replace(FRESH, modprobe=("blacklist nouveau",))
INSTALLED = replace(BLOCKED, module_version="580.95.05", library_version="580.95.05")


@pytest.mark.parametrize(
    ("guest", "driver", "version"),
    [
        (FRESH, "nouveau", None),
        (BLOCKED, None, None),
        (INSTALLED, "nvidia", "580.95.05"),
        (replace(INSTALLED, modprobe=()), "nouveau", None),
        (replace(INSTALLED, modprobe=("install nouveau /bin/false",)), "nvidia", "580.95.05"),
        (replace(INSTALLED, modprobe=("alias nouveau off",)), "nvidia", "580.95.05"),
        (replace(INSTALLED, modprobe=("blacklist nouveau", "blacklist nvidia")), None, None),
        (replace(INSTALLED, open_drivers=("nouveau", "nova_core")), "nova_core", None),
        (
            replace(INSTALLED, modprobe=("blacklist nouveau", "blacklist nova-core")),
            "nvidia",
            "580.95.05",
        ),
        # Debian renames the module and forwards: that is no prohibition.
        (
            replace(
                INSTALLED,
                modprobe=("blacklist nouveau", "install nvidia modprobe -i nvidia-current"),
            ),
            "nvidia",
            "580.95.05",
        ),
        (replace(INSTALLED, library_version=None), "nvidia", "580.95.05"),
    ],
)
def test_which_driver_takes_the_cards(
    guest: Guest, driver: str | None, version: str | None
) -> None:
    state = boot(guest, has_cards=True)
    assert (state.driver, state.nvidia_version) == (driver, version)
    assert state.reason


def test_without_cards_nothing_loads() -> None:
    assert boot(INSTALLED, has_cards=False).driver is None


@pytest.mark.parametrize(
    ("version", "line", "modeset", "fbdev"),
    [
        ("535.261.03", "", False, False),
        ("580.95.05", "", False, True),
        ("595.71.05", "", True, True),
        ("595.71.05", "options nvidia-drm modeset=0 fbdev=0", False, False),
        ("550.163.01", "options nvidia-current-drm modeset=1", True, False),
        ("580.95.05", "options nvidia_drm modeset=Y", True, True),
    ],
)
def test_parameters_follow_the_branch_and_modprobe(
    version: str, line: str, modeset: bool, fbdev: bool
) -> None:
    lines = ("blacklist nouveau", *([line] if line else []))
    state = boot(replace(INSTALLED, module_version=version, modprobe=lines), has_cards=True)
    assert (state.modeset, state.fbdev) == (modeset, fbdev)


@pytest.mark.parametrize(
    ("target", "manager", "desktop"),
    [
        ("graphical.target", True, True),
        ("graphical.target", False, False),
        ("multi-user.target", True, False),
    ],
)
def test_a_desktop_needs_its_target_and_its_manager(
    target: str, manager: bool, desktop: bool
) -> None:
    guest = replace(INSTALLED, default_target=target, display_manager=manager)
    assert boot(guest, has_cards=True).desktop is desktop
