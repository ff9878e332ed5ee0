"""Units, in print only: inside, bytes are integers and names carry their unit."""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


def gib(value_bytes: int) -> str:
    """Bytes as GiB with two decimals: 10737418240 -> '10.00 GiB'."""
    return f"{value_bytes / GIB:.2f} GiB"


def mib(value_bytes: int) -> str:
    """Bytes as whole MiB: 734003200 -> '700 MiB'."""
    return f"{round(value_bytes / MIB)} MiB"


def size(value_bytes: int) -> str:
    """Bytes in the unit that reads best: MiB below 1 GiB, GiB from there on."""
    return gib(value_bytes) if abs(value_bytes) >= GIB else mib(value_bytes)


def tokens(count: int) -> str:
    """A token count with thin grouping: 18944 -> '18 944'."""
    return f"{count:,}".replace(",", " ")


def counted(count: int, noun: str) -> str:
    """A number of things: 1 -> '1 card', 2 -> '2 cards'."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
