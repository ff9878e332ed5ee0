"""A child program with all its descendants: started, watched and ended as one.

Needs an event loop with `add_reader`. Ends are seen through pidfds, so that neither polling nor
asyncio's child watcher is involved; every process of the child is known through `procfs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rig_runtime import procfs
from rig_runtime.errors import CheckFailed

# How often one looks whether killed processes are gone (they need not be our children), and for
# how long: one that hangs in a driver call cannot be ended by anybody.
_GONE_INTERVAL_SECONDS = 0.05
_GONE_TIMEOUT_SECONDS = 15.0
_READ_BYTES = 1 << 16
_LONGEST_LINE_BYTES = 1 << 14


class Child:
    """One program in a session and a directory of its own.

    `ended` resolves to a sentence when the program, or a descendant that `watch` names, ends.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        on_line: Callable[[str], None],
    ) -> None:
        """Start it. Raises OSError where the program cannot be run."""
        self._loop = asyncio.get_running_loop()
        self._directory = directory
        self._on_line = on_line
        self._partial = b""
        self._pidfds: set[int] = set()
        self._leader_gone = asyncio.Event()
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._output, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(theirs, True)
            self._process = subprocess.Popen(
                argv,
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        except OSError:
            os.close(self._output)
            raise
        finally:
            os.close(theirs)
        self.pid = self._process.pid
        self._loop.add_reader(self._output, self._read)
        self._watch(self.pid, self._leader_ended)

    def members(self) -> list[procfs.Process]:
        """Its living processes, whoever their parent is by now."""
        return procfs.members(session=self.pid, directory=self._directory)

    def watch(self, processes: Iterable[procfs.Process]) -> None:
        """Count these descendants' end as the child's."""
        for process in processes:
            sentence = f"its process {process.name} ({process.pid}) ended"
            self._watch(process.pid, partial(self._resolve, sentence))

    async def end(self, *, grace_seconds: float) -> None:
        """End every process: SIGTERM to the program, at half of the grace SIGINT, then SIGKILL.

        Returns when none of them lives; without grace they are killed at once.
        """
        try:
            for number in (signal.SIGTERM, signal.SIGINT) if grace_seconds else ():
                if not self._leader_gone.is_set():
                    self._process.send_signal(number)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._leader_gone.wait(), grace_seconds / 2)
            await end_processes(self.members)
        finally:
            self._close()

    def _watch(self, pid: int, then: Callable[[], None]) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            then()
            return

        def seen() -> None:
            self._loop.remove_reader(descriptor)
            then()

        self._pidfds.add(descriptor)
        self._loop.add_reader(descriptor, seen)

    def _leader_ended(self) -> None:
        status = self._process.poll()
        self._leader_gone.set()
        if status is not None and status < 0:
            self._resolve(f"it was killed by {signal.Signals(-status).name}")
        else:
            self._resolve(f"it exited with status {status}")

    def _resolve(self, sentence: str) -> None:
        self._read()  # its last words come before the news of its end
        if not self.ended.done():
            self.ended.set_result(sentence)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._output, _READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._loop.remove_reader(self._output)
                self._emit(self._partial)
                self._partial = b""
                return
            *lines, self._partial = (self._partial + data).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                self._emit(line)
            if len(self._partial) > _LONGEST_LINE_BYTES:
                self._emit(self._partial)
                self._partial = b""

    def _emit(self, line: bytes) -> None:
        if text := line.decode(errors="replace").rstrip():
            self._on_line(text)

    def _close(self) -> None:
        self._process.poll()
        self._read()
        self._loop.remove_reader(self._output)
        os.close(self._output)
        for descriptor in self._pidfds:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._pidfds.clear()
        if not self.ended.done():
            self.ended.set_result("it was stopped")


async def end_processes(members: Callable[[], list[procfs.Process]]) -> None:
    """Kill until none is left. Raises CheckFailed where a process cannot be ended."""
    deadline = asyncio.get_running_loop().time() + _GONE_TIMEOUT_SECONDS
    while alive := members():
        if asyncio.get_running_loop().time() > deadline:
            raise CheckFailed(
                "All processes of an engine must end before its cards are free.",
                found=f"{', '.join(f'{p.name} ({p.pid})' for p in alive)} survived SIGKILL.",
                how="Such a process hangs in the kernel, mostly in a card's driver: reboot.",
            )
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        await asyncio.sleep(_GONE_INTERVAL_SECONDS)
