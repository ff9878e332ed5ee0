"""The one error of the virtual rig: what was needed, what there is, what would work, how."""

from __future__ import annotations


class VirtualRigError(Exception):
    """Four parts, of which `needed` alone reads as a sentence; `exit_code` is the command's.

    1: this machine cannot do it now; 2: what was asked for is not as it must be.
    """

    exit_code = 1

    def __init__(self, needed: str, *, found: str = "", works: str = "", how: str = "") -> None:
        self.needed = needed
        self.found = found
        self.works = works
        self.how = how
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = (self.needed, self.found, self.works, self.how)
        return " ".join(p if p.endswith((".", ":", "!", "?")) else p + "." for p in parts if p)

    def as_json(self) -> dict[str, str]:
        """The four parts, for `--json`."""
        return {
            "needed": self.needed,
            "found": self.found,
            "works": self.works,
            "how": self.how,
        }


class BadInput(VirtualRigError):
    """An argument or a file is not as it must be."""

    exit_code = 2
