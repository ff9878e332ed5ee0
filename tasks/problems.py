"""A problem as a person meets it: what was needed, what there is, what works, how to get it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that must be mended before the host is changed. `needed` alone is a sentence."""

    needed: str
    found: str = ""
    works: str = ""
    how: str = ""

    def __str__(self) -> str:
        parts = (self.needed, self.found, self.works, self.how)
        return " ".join(p if p.endswith((".", ":", "!", "?")) else p + "." for p in parts if p)


def listing(problems: Iterable[Problem]) -> str:
    """All problems, numbered, one a line."""
    return "\n".join(f"{number}. {problem}" for number, problem in enumerate(problems, start=1))
