"""Which processes belong to an engine, and which files in /dev/shm: read from /proc, exactly.

An engine runs in a directory of its own and in a session of its own. Its descendants keep both,
also when their parent was killed and they were handed to init, and although they overwrite
their names and environments (vLLM does).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Process:
    """A living process (no zombie)."""

    pid: int
    name: str
    session: int


@dataclass(frozen=True)
class SharedFile:
    """A file in /dev/shm; the inode tells it from a later one with the same name."""

    name: str
    inode: int


def living() -> Iterator[Process]:
    """Every process that lives; those that end while one reads are left out."""
    for entry in os.scandir(PROC):
        if entry.name.isdecimal() and (process := read(int(entry.name))):
            yield process


def read(pid: int) -> Process | None:
    """One process, or None where it ended (a zombie has ended)."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # the name is in parentheses and may hold any character, also ')'
    name, _, rest = text.partition("(")[2].rpartition(")")
    state, _, _, session, *_ = rest.split()
    return None if state in "ZX" else Process(pid, name, int(session))


def command_line(pid: int) -> str:
    """The words of its command line, or what it replaced them with; empty where it ended."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return words.replace(b"\0", b" ").decode(errors="replace").strip()


def members(*, session: int | None, directory: Path) -> list[Process]:
    """The engine's processes: those of its session, and those whose directory is its own."""
    own = os.getpid()
    return [
        process
        for process in living()
        if process.pid != own and (process.session == session or _works_in(process.pid, directory))
    ]


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(os.readlink(PROC / str(pid) / "cwd")).is_relative_to(directory)
    except OSError:
        return False


def shared_files(pids: Iterable[int]) -> set[SharedFile]:
    """The files in /dev/shm that these processes hold mapped or open and that still have names.

    Told by inode: a semaphore is made under another name than the one that it gets, and the
    process that made it goes on showing the first.
    """
    inodes = {inode for pid in pids for inode in (*_mapped(pid), *_opened(pid))}
    return {file for file in all_shared_files() if file.inode in inodes}


def leftovers(known: set[SharedFile], before: set[SharedFile], prefixes: tuple[str, ...]) -> None:
    """Remove what an engine that is gone left in /dev/shm: files seen in its hands, and nothing
    of anybody else.

    A file made and dropped between two looks was never seen in its hands. It counts as the
    engine's if it is new since the engine started, ours, named as the engine names its files, and
    held by no living process.
    """
    now = set(all_shared_files())
    ours = {file for file in now - before if file.name.startswith(prefixes) and _is_ours(file)}
    candidates = (known & now) | ours
    held = shared_files(process.pid for process in living()) if candidates else set()
    for file in candidates - held:
        with contextlib.suppress(OSError):
            (SHARED_MEMORY / file.name).unlink()


def all_shared_files() -> Iterator[SharedFile]:
    """Every file in /dev/shm."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(SHARED_MEMORY):
            with contextlib.suppress(OSError):
                yield SharedFile(entry.name, entry.inode())


def _is_ours(file: SharedFile) -> bool:
    try:
        return (SHARED_MEMORY / file.name).lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _mapped(pid: int) -> Iterator[int]:
    """Inodes of the file system of /dev/shm that a process has mapped."""
    device = SHARED_MEMORY.stat().st_dev
    mark = f"{os.major(device):02x}:{os.minor(device):02x}"
    try:
        lines = (PROC / str(pid) / "maps").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, _, its_device, inode, *_ = line.split(maxsplit=5)
        if its_device == mark:
            yield int(inode)


def _opened(pid: int) -> Iterator[int]:
    """Inodes of the file system of /dev/shm that a process has open."""
    device = SHARED_MEMORY.stat().st_dev
    with contextlib.suppress(OSError):
        for entry in os.scandir(PROC / str(pid) / "fd"):
            with contextlib.suppress(OSError):
                found = entry.stat()
                if found.st_dev == device:
                    yield found.st_ino
