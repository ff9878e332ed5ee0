"""Printing for people: tables and bars that hold at 80 columns and without colour."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rig_runtime.units import GIB

BAR_CELLS = 30
Segment = tuple[str, str, int]
"""A letter, a style, and bytes."""


class Output(Console):
    """Standard output. A reader that has enough is the command line's to handle, not rich's."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Output:
    """Standard output; `NO_COLOR`, pipes and narrow terminals are rich's to respect."""
    return Output(highlight=False, emoji=False, markup=False, width=_width())


def _width() -> int | None:
    """A pipe has no width: 80 columns then."""
    return None if sys.stdout.isatty() else 80


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> Table:
    """A plain table; the columns named in `right` are aligned right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def bar(segments: Sequence[Segment], total_bytes: int, cells: int = BAR_CELLS) -> Text:
    """A card's memory as a row of letters, one letter a share; what is left is dots.

    Every part that is not zero has at least one cell, so that nothing that is there is hidden.
    """
    text = Text("[")
    left = cells
    for letter, style, size in segments:
        if size > 0 and left > 0:
            count = min(left, max(1, round(size * cells / max(1, total_bytes))))
            text.append(letter * count, style=style)
            left -= count
    text.append("." * left, style="dim")
    text.append("]")
    return text


def gib_of(value_bytes: int | None) -> str:
    """GiB with two decimals and no unit, for a column; '?' where it is unknown."""
    return "?" if value_bytes is None else f"{value_bytes / GIB:.2f}"
