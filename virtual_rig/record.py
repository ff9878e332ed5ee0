"""A box's folder: what is in it, and whether the box lives.

The folder is the state: a box whose supervisor is gone is dead, whatever else is left of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from virtual_rig import paths
from virtual_rig.errors import BadInput
from virtual_rig.scenario import replace_file

Phase = Literal["starting", "running", "off", "failed", "dead"]
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True)
class Record:
    """What the supervisor says of its box; `error` has the four parts of why it failed."""

    name: str
    suite: str
    supervisor_pid: int
    supervisor_started: int
    phase: Phase = "starting"
    number: int = 0
    boots: int = 0
    driver: str = ""
    error: dict[str, str] | None = None

    def alive(self) -> bool:
        """Whether the supervisor that wrote this still runs: the same process, not its number."""
        return process_started(self.supervisor_pid) == self.supervisor_started


def folder_of(name: str) -> Path:
    """The folder of the box with this name; `BadInput` where it cannot be a host name."""
    if not name or len(name) > 40 or not set(name) <= _NAME_CHARACTERS or name[0] == "-":
        raise BadInput(
            "A box's name has 1 to 40 lower-case letters, digits and hyphens",
            found=f"{name!r} was given",
        )
    return paths.state() / name


def folders() -> list[Path]:
    """The folders of all boxes, living or not."""
    parent = paths.state()
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir())


def read(folder: Path) -> Record | None:
    """The record of this box; None where its supervisor never wrote one."""
    try:
        return Record(**json.loads((folder / "box.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(folder: Path, record: Record) -> None:
    """Write it in one step."""
    replace_file(folder / "box.json", json.dumps(asdict(record), indent=1) + "\n", mode=0o600)


def process_started(pid: int) -> int | None:
    """When this process began, in ticks since boot (proc(5), stat, field 22); None if none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def processes_naming(folder: Path) -> list[int]:
    """The processes with this box's folder on their command line, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if str(folder) in words or f"--directory={folder}/root" in words:
                found.append(int(entry.name))
    return sorted(found)
