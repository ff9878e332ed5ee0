"""No desktop on the cards: a display manager or a console framebuffer holds memory of each one."""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from tasks.driver_choice import DriverChoice
from tasks.operations import (
    default_target,
    display_manager_stopped,
    initramfs_current,
    x_configurations_aside,
)
from tasks.templates import written

HEADLESS_TARGET = "multi-user.target"
# nvidia-drm has had the parameter fbdev since this branch.
FBDEV_FROM_BRANCH = 545


def is_local() -> bool:
    """Whether pyinfra runs on the host itself: it is never rebooted, its desktop never stopped."""
    return host.name.startswith("@local")


@deploy("Headless")
def headless(wanted: bool, choice: DriverChoice | None) -> None:
    """Free the cards of display work, where the inventory asks for it."""
    if choice is None:
        return
    if wanted:
        default_target(name="Boot to a text console", target=HEADLESS_TARGET)
        display_manager_stopped(name="Stop the display manager", stop_now=not is_local())
        x_configurations_aside(name="Put X configurations aside that name the cards")
        written(
            "modprobe-headless.conf",
            "/etc/modprobe.d/rig-headless.conf",
            name="No kernel mode setting on the cards",
            modeset=False,
            with_fbdev=choice.branch >= FBDEV_FROM_BRANCH,
        )
    initramfs_current(name="Module options into the initramfs")
