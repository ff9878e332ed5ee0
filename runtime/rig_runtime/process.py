"""One engine process: starting, ready, draining, failed, stopped. It alone owns that state.

    process = EngineProcess(...)
    await process.start()      # returns when a real request was answered, or raises EngineFailed
    error = await process.failure()   # when it dies or hangs
    await process.stop()       # no process and no shared memory of it is left

A start that fails has ended everything itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from rig_runtime import procfs
from rig_runtime.child import Child, end_processes
from rig_runtime.engines import Engine, LaunchSpec
from rig_runtime.errors import CheckFailed

LOG_TAIL_LINES = 400
RECORD = "shared-memory.json"


class ProcessState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True)
class Timings:
    """How an engine is watched; in seconds, and how many silent health checks mean a hang."""

    start_poll_seconds: float = 0.25
    health_interval_seconds: float = 5.0
    health_timeout_seconds: float = 15.0
    health_misses: int = 3


class EngineFailed(CheckFailed):
    """An engine did not start, died or hangs. `permanent`: another start would fail too."""

    permanent = False


class EngineProcess:
    """One engine process and everything that it starts."""

    def __init__(
        self,
        engine: Engine,
        spec: LaunchSpec,
        directory: Path,
        *,
        say: Callable[[str], None],
        timings: Timings | None = None,
    ) -> None:
        """`directory` is the process's own and is removed with it; `say` gets its output."""
        self.spec = spec
        self.state = ProcessState.STOPPED
        self.progress = ""
        self.log_tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self._engine = engine
        self._directory = directory
        self._say = say
        self._timings = timings or Timings()
        self._child: Child | None = None
        self._ending: asyncio.Task[None] | None = None
        self._shared_before: set[procfs.SharedFile] = set()

    def pids(self) -> list[int]:
        """Its living processes, the one that was started first."""
        if self._child is None:
            return []
        return sorted(process.pid for process in self._child.members())

    def ranks(self) -> dict[int, int]:
        """The process id of each rank, as far as the engine names its ranks."""
        found = {self._engine.rank(procfs.command_line(pid)): pid for pid in self.pids()}
        return {rank: pid for rank, pid in sorted(found.items(), key=str) if rank is not None}

    async def start(self) -> None:
        """Start it and wait until it has answered a real request. Raises EngineFailed."""
        self.state = ProcessState.STARTING
        self._shared_before = set(procfs.all_shared_files())
        try:
            self._leave_record()
            child = self._spawn()
            await self._become_ready(child)
        except BaseException:
            await self._end(ProcessState.FAILED, grace_seconds=0)
            raise
        child.watch(self._vital())
        self.state = ProcessState.READY

    async def _become_ready(self, child: Child) -> None:
        answered = asyncio.create_task(self._answer_a_request())
        limit = self.spec.start_timeout_seconds
        try:
            await _first_of(answered, child.ended, seconds=limit)
        finally:
            answered.cancel()
        if child.ended.done():
            raise self._failure(child.ended.result())
        if not answered.done():
            raise self._failure(f"it did not answer within {limit:.0f} s", permanent=False)
        answered.result()

    async def failure(self) -> EngineFailed:
        """Wait until the engine dies or hangs, and say why. `stop` must follow."""
        child = self._require_child()
        watch = asyncio.create_task(self._watch_health())
        try:
            await _first_of(watch, child.ended)
            ended = child.ended.result() if child.ended.done() else watch.result()
        finally:
            watch.cancel()
        error = self._failure(ended)
        self.state = ProcessState.FAILED
        return error

    async def stop(self) -> None:
        """End it whole; requests must have drained before. One that has failed gets no grace."""
        if self._child is not None and self.state is ProcessState.FAILED:
            await self._end(ProcessState.FAILED, grace_seconds=0)
        elif self._child is not None:
            self.state = ProcessState.DRAINING
            await self._end(ProcessState.STOPPED, grace_seconds=self.spec.stop_timeout_seconds)
        elif self._ending is not None:
            await asyncio.shield(self._ending)

    def _leave_record(self) -> None:
        """For `sweep`, should this service be killed."""
        record = {
            "before": [[file.name, file.inode] for file in self._shared_before],
            "prefixes": self.spec.shared_memory_prefixes,
        }
        (self._directory / RECORD).write_text(json.dumps(record))

    def _spawn(self) -> Child:
        try:
            self._child = Child(
                self.spec.argv,
                environment=self.spec.environment,
                directory=self._directory,
                on_line=self._hear,
            )
        except OSError as error:
            raise self._failure(
                f"{self.spec.argv[0]} cannot be run: {error.strerror}", permanent=True
            ) from error
        return self._child

    def _require_child(self) -> Child:
        if self._child is None:
            raise RuntimeError("the process was not started")
        return self._child

    def _hear(self, line: str) -> None:
        self.log_tail.append(line)
        self._say(line)
        if self.state is ProcessState.STARTING and (word := self._engine.progress(line)):
            self.progress = word

    async def _answer_a_request(self) -> None:
        """Healthy is what the engine says of itself; a first token is the proof."""
        async with aiohttp.ClientSession(self.spec.base_url) as session:
            while True:
                if await self._answers(session):
                    return
                await asyncio.sleep(self._timings.start_poll_seconds)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        return await _is_ok(session.get(self.spec.health_path)) and await _is_ok(
            session.post(self.spec.probe_path, json=dict(self.spec.probe_body))
        )

    async def _watch_health(self) -> str:
        """Returns when the engine has been silent, or said to be unhealthy, for too long."""
        timings = self._timings
        misses = 0
        timeout = aiohttp.ClientTimeout(total=timings.health_timeout_seconds)
        async with aiohttp.ClientSession(self.spec.base_url, timeout=timeout) as session:
            while misses < timings.health_misses:
                await asyncio.sleep(timings.health_interval_seconds)
                healthy = await _is_ok(session.get(self.spec.health_path))
                misses = 0 if healthy else misses + 1
        return f"it hangs: {misses} health checks in a row failed"

    def _vital(self) -> list[procfs.Process]:
        names = self.spec.vital_process_names
        return [p for p in self._require_child().members() if p.name.startswith(names)]

    async def _end(self, state: ProcessState, *, grace_seconds: float) -> None:
        """Not to be interrupted: a cancelled caller still leaves nothing behind."""
        self._ending = asyncio.create_task(self._end_now(state, grace_seconds))
        await asyncio.shield(self._ending)

    async def _end_now(self, state: ProcessState, grace_seconds: float) -> None:
        child, self._child = self._child, None
        if child is not None:
            held = procfs.shared_files(process.pid for process in child.members())
            await child.end(grace_seconds=grace_seconds)
            prefixes = self.spec.shared_memory_prefixes
            await asyncio.to_thread(procfs.leftovers, held, self._shared_before, prefixes)
        await asyncio.to_thread(shutil.rmtree, self._directory, True)
        self.state = state

    def _failure(self, ended: str, *, permanent: bool | None = None) -> EngineFailed:
        """What happened in our words, with the engine's own text attached."""
        diagnosis = self._engine.diagnose(list(self.log_tail))
        starting = self.state is ProcessState.STARTING
        found = f"While {'starting' if starting else 'serving'}, {ended}."
        if diagnosis is not None:
            found += f" {diagnosis.cause}: {diagnosis.text}"
        elif starting and self.log_tail:
            found += f" It said: {_telling_line(self.log_tail)[:500]}"
        error = EngineFailed(
            f"The engine of {self.spec.served_name} failed.",
            found=found,
            how="All of its output: `journalctl -u rig-runtime`.",
        )
        known = diagnosis is not None and diagnosis.permanent and starting
        error.permanent = known if permanent is None else permanent
        return error


def _telling_line(lines: Sequence[str]) -> str:
    """The last line that names an error, else the last one."""
    errors = [line for line in lines if re.search(r"\b\w*(Error|Exception)\b.*: ", line)]
    return (errors or lines)[-1]


async def _first_of(*futures: asyncio.Future[Any], seconds: float | None = None) -> None:
    await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


async def _is_ok(request: contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]) -> bool:
    try:
        async with request as response:
            await response.read()
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def own_directory(parent: Path, model: str) -> Path:
    """A new directory for one start. Short: engines make Unix sockets in it (108 bytes at most)."""
    parent.mkdir(parents=True, exist_ok=True)
    word = "".join(letter if letter.isalnum() else "-" for letter in model)[:24]
    return Path(tempfile.mkdtemp(prefix=f"{word}-", dir=parent.resolve()))


async def sweep(parent: Path) -> int:
    """End what an earlier service left that was killed itself; returns how many processes.

    Every start has a directory of its own below `parent`: what works in one is an engine's.
    """
    count = 0
    for directory in await asyncio.to_thread(lambda: list(parent.resolve().glob("*/"))):
        ours = procfs.members(session=None, directory=directory)
        count += len(ours)
        held = procfs.shared_files(process.pid for process in ours)
        await end_processes(partial(_working_in, directory))
        await asyncio.to_thread(procfs.leftovers, held, *_recorded(directory))
        await asyncio.to_thread(shutil.rmtree, directory, True)
    return count


def _working_in(directory: Path) -> list[procfs.Process]:
    return procfs.members(session=None, directory=directory)


def _recorded(directory: Path) -> tuple[set[procfs.SharedFile], tuple[str, ...]]:
    """The files that were there before the start, and how the engine names its own."""
    try:
        record = json.loads((directory / RECORD).read_text())
        before = {procfs.SharedFile(str(name), int(inode)) for name, inode in record["before"]}
        return before, tuple(record["prefixes"])
    except (OSError, ValueError, TypeError, KeyError):
        return set(), ()
