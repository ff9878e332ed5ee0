"""The environments of ours below /opt/rig."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase

from tasks.facts.lines import pairs


class EnvironmentState(TypedDict):
    """One of our environments: the digest that `current` names, and those that are complete."""

    current: str | None
    complete: list[str]


class Environments(FactBase[dict[str, EnvironmentState]]):
    """The environments below /opt/rig: which digest is current, which are complete."""

    def command(self, names: list[str]) -> str:
        return (
            f"for name in {' '.join(names)}; do "
            'echo "name=$name"; '
            'link=$(readlink "/opt/rig/$name/current" 2>/dev/null); '
            'echo "current=$name ${link##*/}"; '
            'for marker in "/opt/rig/$name"/*/.complete; do [ -e "$marker" ] && '
            '{ folder=${marker%/.complete}; echo "complete=$name ${folder##*/}"; }; done; '
            "done; true"
        )

    def process(self, output: list[str]) -> dict[str, EnvironmentState]:
        found = pairs(output)
        current = [line.split() for line in found.get("current", [])]
        complete = [line.split() for line in found.get("complete", [])]
        return {
            name: {
                "current": next((w[1] for w in current if w[0] == name and len(w) > 1), None),
                "complete": sorted({w[1] for w in complete if w[0] == name and w[1] != "current"}),
            }
            for name in found.get("name", [])
        }
