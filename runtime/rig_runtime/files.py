"""Reading files that strangers name: bounded in bytes and in time, whatever the path leads to."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from pathlib import Path
from typing import BinaryIO

from rig_runtime.errors import BadInput

CHUNK_BYTES = 1 << 20
PIPE_SECONDS = 30.0
"""How long the other end of a pipe may take: `--rig <(ssh rig rig-runtime gpus --json)`."""


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The whole content of a file, a pipe or a device. Raises BadInput.

    A pipe that nobody writes to, or whose writer says nothing for long, is given up; a device
    without an end is too large.
    """
    content = bytearray()
    deadline = time.monotonic() + PIPE_SECONDS
    try:
        # not blocking: the open of a fifo would wait for a writer, which may never come
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb", buffering=0) as file:
            while chunk := _chunk(file, min(CHUNK_BYTES, most_bytes + 1 - len(content)), deadline):
                content += chunk
            is_silent = not content and stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if is_silent:
        raise BadInput(f"cannot read {path}", found="it is a pipe to which nobody writes")
    if len(content) > most_bytes:
        raise BadInput(
            f"{path} is larger than {most_bytes >> 20} MiB",
            works="no file of its kind needs that: is it the right one?",
        )
    return bytes(content)


def _chunk(file: BinaryIO, most_bytes: int, deadline: float) -> bytes:
    """The next bytes; none at the end, and none where `most_bytes` is 0."""
    while (chunk := file.read(most_bytes)) is None:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([file], [], [], left)[0]:
            raise TimeoutError(0, f"nothing came for {PIPE_SECONDS:.0f} s")
    return chunk


def open_regular(path: Path) -> BinaryIO:
    """A regular file, open for reading and seeking. Raises BadInput."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"cannot read {path}", found="it is no regular file")
    return open(descriptor, "rb")


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False also where the system cannot even look."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_file()
    return False


def why_missing(path: Path) -> str:
    """Why there is nothing at a path, in the system's words; '' where there is something."""
    try:
        path.stat()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    except ValueError as error:
        return str(error)
    return ""


def _unreadable(path: Path, error: OSError | ValueError) -> BadInput:
    found = getattr(error, "strerror", None) or str(error)
    return BadInput(f"cannot read {path}", found=str(found).lower())
