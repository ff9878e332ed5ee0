"""One served model: its life, its plan, its engine process, and the queue before it.

Decisions are `lifecycle`'s, values in and values out; what touches the world comes in as
`Effects`. Nobody acts on a state that was read: callers ask for a lease and await it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rig_runtime import lifecycle
from rig_runtime.config import ModelConfig
from rig_runtime.engines import LaunchSpec
from rig_runtime.errors import CheckFailed, RigError
from rig_runtime.lifecycle import Life, Phase
from rig_runtime.plan_types import Plan
from rig_runtime.process import EngineFailed, EngineProcess


class Refused(RigError):
    """A request cannot be served now; `cause` is a row of the gateway's table of errors."""

    def __init__(self, cause: str, needed: str, *, found: str = "", how: str = "") -> None:
        super().__init__(needed, found=found, how=how)
        self.cause = cause


@dataclass(frozen=True)
class Limits:
    """Of each model's queue: how many may wait for it, and for how long."""

    queue: int
    queue_seconds: float
    drain_seconds: float


class Effects(Protocol):
    """What the scheduler does to the world."""

    def now(self) -> float:
        """Seconds since the epoch."""

    async def plan(self, model: ModelConfig, others: Sequence[Plan]) -> Plan:
        """A plan on the cards as they are, beside the `others`. Raises RigError."""

    async def process(self, model: ModelConfig, plan: Plan) -> EngineProcess:
        """An engine process for the plan, not yet started. Raises RigError."""

    def changed(self, model: str, life: Life) -> None:
        """A model is in a new phase: for people who watch."""


class ServedModel:
    """One configured model: owns its life, its plan and its engine process."""

    def __init__(
        self,
        config: ModelConfig,
        effects: Effects,
        limits: Limits,
        others: Callable[[], Sequence[Plan]],
    ) -> None:
        self.config = config
        self.life = lifecycle.begin(effects.now())
        self.plan: Plan | None = None
        self.process: EngineProcess | None = None
        self.in_flight = 0
        self.queued = 0
        self._effects = effects
        self._limits = limits
        self._others = others
        self._was_used = False
        self._first_plan: Plan | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Take the first plan. Raises RigError where there is none; the model has failed then."""
        try:
            self.plan = await self._effects.plan(self.config, self._others())
        except RigError as error:
            self._broke(error, permanent=True)
            raise
        self._first_plan = self.plan

    def start(self) -> asyncio.Task[None]:
        """Live until stopped; once failed, wait for a request after the cool-down."""
        self._task = asyncio.create_task(self._run(), name=f"model {self.config.name}")
        return self._task

    async def _run(self) -> None:
        while self.life.phase not in (Phase.DRAINING, Phase.STOPPED):
            if self.life.phase is Phase.FAILED:
                await self.next_change()
                continue
            await self._live_once()
            await self._back_off()

    async def _back_off(self) -> None:
        if self.life.phase is Phase.WAITING:
            await asyncio.sleep(self.life.backoff_seconds)
            self._move(lifecycle.retry_due(self.life, self._effects.now()))

    async def _live_once(self) -> None:
        try:
            plan = self._first_plan or await self._effects.plan(self.config, self._others())
            self._first_plan = None  # the cards may have changed when it is started again
            self.plan = plan
            self.process = await self._effects.process(self.config, plan)
            await self.process.start()
        except EngineFailed as error:
            self._broke(error, permanent=error.permanent)
            return
        except RigError as error:  # a card that is gone may come back: planned again later
            self._broke(error, permanent=False)
            return
        except OSError as error:  # no room for the engine's directory, too many open files
            self._broke(_from_system(self.config.name, error), permanent=False)
            return
        self._was_used = False
        self._move(lifecycle.started(self.life, self._effects.now()))
        self._broke(await self.process.failure(), permanent=False)  # nobody gets it from here on
        await self.process.stop()

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[LaunchSpec]:
        """The right to send one request to the ready engine: waits for it, then holds it.

        Raises Refused where it will not be ready.
        """
        process = await self._until_ready()
        self.in_flight += 1
        self._was_used = True
        try:
            yield process.spec
        finally:
            self.in_flight -= 1
            self._notify()

    async def leave_ready(self, seconds: float) -> bool:
        """Wait until it is seen that the engine is ready no more; False if it is after that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.life.phase is Phase.READY:
                    await self.next_change()
        return self.life.phase is not Phase.READY

    async def next_change(self) -> None:
        """Wait until something about the model changes: its phase, or a request ends."""
        await self._changed.wait()

    async def stop(self) -> None:
        """Let running requests finish, as far as the limit allows, then end the engine."""
        if self.life.phase is Phase.STOPPED:
            return
        self._move(lifecycle.stop_asked(self.life, self._effects.now()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.drain_seconds):
                while self.in_flight:
                    await self.next_change()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self.process is not None:
            await self.process.stop()
        self._move(lifecycle.stopped(self.life, self._effects.now()))

    async def _until_ready(self) -> EngineProcess:
        if self.life.phase is Phase.READY and self.process is not None:
            return self.process
        self._try_again_if_cool()
        self._refuse_if_hopeless()
        if self.queued >= self._limits.queue:
            raise Refused(
                "queue_full",
                f"The queue of {self.config.name} is full.",
                found=f"{self.queued} requests wait for it to be ready.",
            )
        self.queued += 1
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                while self.life.phase is not Phase.READY or self.process is None:
                    await self.next_change()
                    self._refuse_if_hopeless()
        except TimeoutError as error:
            raise Refused(
                "queue_timeout",
                f"{self.config.name} was not ready within {self._limits.queue_seconds:.0f} s.",
                found=self.life.reason or f"It is {self.life.phase}.",
            ) from error
        finally:
            self.queued -= 1
        return self.process

    def _try_again_if_cool(self) -> None:
        now = self._effects.now()
        if lifecycle.has_cooled_down(self.life, now):
            self._move(lifecycle.tried_again(self.life, now))

    def _refuse_if_hopeless(self) -> None:
        if self.life.phase is Phase.FAILED:
            raise Refused(
                "model_failed",
                f"{self.config.name} failed and is not tried again by itself.",
                found=self.life.reason or "",
                how="`rig-runtime status` and the journal say more. A request "
                f"{lifecycle.COOL_DOWN_SECONDS:.0f} s after the failure has it tried again, "
                "a restart of rig-runtime at once.",
            )
        if self.life.phase in (Phase.DRAINING, Phase.STOPPED):
            raise Refused("stopping", "The service is stopping.")

    def _broke(self, error: RigError, *, permanent: bool) -> None:
        if self.life.phase is Phase.DRAINING:
            return
        life = lifecycle.broke(
            self.life,
            self._effects.now(),
            reason=str(error),
            permanent=permanent,
            was_used=self._was_used,
        )
        self._was_used = False
        self._move(life)

    def _move(self, life: Life) -> None:
        self.life = life
        self._effects.changed(self.config.name, life)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _from_system(model: str, error: OSError) -> CheckFailed:
    return CheckFailed(
        f"The machine must let the engine of {model} start.",
        found=f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.",
        how="`df -h` shows full disks; the state directory must be writable for the service.",
    )
