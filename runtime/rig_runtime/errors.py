"""Every error that a user can meet.

RigError            has the four parts of an error and an exit code
├── BadInput        exit 2: a file, an argument or a configuration is not as it must be
├── NothingFits     exit 3: no legal plan fits these cards
└── CheckFailed     exit 1: the machine or an engine is not as it should be
"""

from __future__ import annotations

MOST_CHARACTERS = 1500
"""Of one part of an error: what a stranger wrote into a file is not repeated at length."""


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    """Text as a terminal may show it: no control characters, no halves of characters, not endless.

    Names come from files, cards and processes; what is not printable is shown as '\\x1b'.
    """
    shown = text if len(text) <= most else f"{text[: most - 3]}..."
    if shown.isprintable():
        return shown
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in shown
    )


class RigError(Exception):
    """What was needed, what there is, what would work, how to get it.

    `needed` alone must read as a sentence; the other parts may be empty where there is nothing
    true to say.
    """

    exit_code = 1

    def __init__(self, needed: str, *, found: str = "", works: str = "", how: str = "") -> None:
        self.needed = printable(needed)
        self.found = printable(found)
        self.works = printable(works)
        self.how = printable(how)
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = (self.needed, self.found, self.works, self.how)
        return " ".join(p if p.endswith((".", ":", "!", "?")) else p + "." for p in parts if p)

    def as_json(self) -> dict[str, str]:
        """The four parts, for `--json` and for HTTP error bodies."""
        return {
            "needed": self.needed,
            "found": self.found,
            "works": self.works,
            "how": self.how,
        }


class BadInput(RigError):
    """A file, an argument or a configuration is not as it must be."""

    exit_code = 2


class NothingFits(RigError):
    """No legal plan fits these cards."""

    exit_code = 3


class CheckFailed(RigError):
    """The machine or an engine is not as it should be."""

    exit_code = 1
