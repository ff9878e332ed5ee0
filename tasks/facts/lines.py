"""What facts have in common: `key=value` lines, and the kernel that will boot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

# The kernel that will boot: GRUB and systemd-boot both start the newest installed one.
BOOT_KERNEL = (
    "boot=$(ls /boot/vmlinuz-* 2>/dev/null | sed 's,^/boot/vmlinuz-,,' | sort -V | tail -n 1); "
    "boot=${boot:-$(uname -r)}; "
)


def pairs(output: Iterable[str]) -> dict[str, list[str]]:
    """`key=value` lines as lists of values by key, empty values left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in output:
        key, separator, value = line.strip().partition("=")
        if separator and value:
            found[key].append(value)
    return found


def first(found: dict[str, list[str]], key: str) -> str | None:
    """The first value of a key; None where there is none."""
    return found[key][0] if found.get(key) else None


def yes(value: str | None) -> bool | None:
    """A kernel parameter or a sysfs flag: Y, 1 or yes; None stays unknown."""
    return None if value is None else value in ("Y", "1", "yes")


def integer(value: str | None) -> int | None:
    """A whole number; None for anything else."""
    return int(value) if value and value.isdigit() else None
