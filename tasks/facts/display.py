"""What may draw on a card: target, display manager, kernel mode setting, X configurations."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase

from tasks.facts.lines import BOOT_KERNEL, first, pairs, yes


class DisplayState(TypedDict):
    """What may draw on a card: target, display manager, kernel mode setting, X configurations."""

    default_target: str | None
    display_manager: str | None
    display_manager_active: bool
    modeset: bool | None
    fbdev: bool | None
    initramfs_stale: bool
    x_configurations: list[str]


class Display(FactBase[DisplayState]):
    """Default target, display manager, kernel mode setting, and whether the initramfs is stale."""

    def command(self) -> str:
        return (
            'echo "target=$(systemctl get-default 2>/dev/null)"; '
            "manager=$(readlink -f /etc/systemd/system/display-manager.service 2>/dev/null); "
            '[ -e "$manager" ] && echo "manager=${manager##*/}"; '
            'echo "active=$(systemctl is-active display-manager.service 2>/dev/null)"; '
            "for name in modeset fbdev; do "
            'echo "$name=$(cat /sys/module/nvidia_drm/parameters/$name 2>/dev/null)"; done; '
            + BOOT_KERNEL
            + "for conf in /etc/modprobe.d/rig-*.conf; do "
            '[ -e "$conf" ] && [ -e "/boot/initrd.img-$boot" ] && '
            '[ "$conf" -nt "/boot/initrd.img-$boot" ] && echo stale=yes; done; '
            "for conf in /etc/X11/xorg.conf /etc/X11/xorg.conf.d/*; do "
            'grep -qi nvidia "$conf" 2>/dev/null && echo "x=$conf"; done; true'
        )

    def process(self, output: list[str]) -> DisplayState:
        found = pairs(output)
        return {
            "default_target": first(found, "target"),
            "display_manager": first(found, "manager"),
            "display_manager_active": first(found, "active") == "active",
            "modeset": yes(first(found, "modeset")),
            "fbdev": yes(first(found, "fbdev")),
            "initramfs_stale": "stale" in found,
            "x_configurations": found.get("x", []),
        }
