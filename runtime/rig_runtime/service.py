"""The service as a whole: cards, scheduler and gateway put together, and its status."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rig_runtime import engines, models
from rig_runtime.config import Config, ModelConfig
from rig_runtime.cpu_plan import plan_on_cpu
from rig_runtime.engines import Engine
from rig_runtime.errors import BadInput, CheckFailed
from rig_runtime.eviction import beside
from rig_runtime.fleet import request_of
from rig_runtime.gateway import api, control, keys
from rig_runtime.gateway.forward import upstream_session
from rig_runtime.gateway.server import bind, bind_unix, serving
from rig_runtime.gpus import Rig
from rig_runtime.lifecycle import Life, Phase
from rig_runtime.plan import nothing_fits, plan_model
from rig_runtime.plan_types import Plan
from rig_runtime.process import EngineProcess, own_directory, sweep
from rig_runtime.scheduler import Scheduler
from rig_runtime.served import Limits
from rig_runtime.status import status_of
from rig_runtime.units import KIB

log = logging.getLogger("rig_runtime.service")
engine_output = logging.getLogger("rig_runtime.engine")


@dataclass(frozen=True)
class Listeners:
    """Sockets that are bound before anything else is done."""

    gateway: socket.socket
    control: socket.socket

    @property
    def address(self) -> str:
        host, port, *_ = self.gateway.getsockname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def listeners(config: Config) -> Iterator[Listeners]:
    """Take the lock and both sockets. Raises BadInput where another service has them."""
    with _only_service(config.state_directory), contextlib.ExitStack() as stack:
        gateway = stack.enter_context(bind(config.gateway.host, config.gateway.port))
        stack.callback(config.gateway.control_socket.unlink, missing_ok=True)
        yield Listeners(gateway, stack.enter_context(bind_unix(config.gateway.control_socket)))


@contextlib.contextmanager
def _only_service(directory: Path) -> Iterator[None]:
    """Two services with one directory would end each other's engines."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInput(
            f"The directory {directory} must be writable.",
            found=error.strerror or str(error),
            how="Set state_directory to one that this user may write.",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadInput(
            f"Only one rig-runtime may serve from {directory}.",
            found="Another one does.",
            how="`rig-runtime status` shows it; or set state_directory to another place.",
        ) from error
    try:
        yield
    finally:
        os.close(lock)


class World:
    """The scheduler's effects on this machine."""

    def __init__(self, config: Config, read_rig: Callable[[], Rig]) -> None:
        self._config = config
        self._read_rig = read_rig
        self._watchers: list[Callable[[str, Life], None]] = []

    def now(self) -> float:
        return time.time()

    async def plan(self, model: ModelConfig, others: Sequence[Plan]) -> Plan:
        rig = await asyncio.to_thread(self._rig)
        shape = replace(await asyncio.to_thread(models.read_shape, model.path), name=model.name)
        request = request_of(model, self._config)
        if self._is_cpu_build and not rig.gpus:
            return plan_on_cpu(shape, request, available_memory_bytes())
        plan = plan_model(shape, beside(rig, others), request)
        if not plan.feasible:
            raise nothing_fits(plan)
        return plan

    @property
    def _is_cpu_build(self) -> bool:
        vllm = self._config.engines.vllm
        return vllm is not None and vllm.build == "cpu"

    def _rig(self) -> Rig:
        """A CPU build serves without a driver, too."""
        try:
            return self._read_rig()
        except CheckFailed:
            if not self._is_cpu_build:
                raise
            return Rig()

    async def process(self, model: ModelConfig, plan: Plan) -> EngineProcess:
        engine = engines.for_name(plan.engine, self._config)
        directory = own_directory(self._config.state_directory / "engines", model.name)
        spec = engine.launch(plan, model, port=free_port(), directory=directory)
        return EngineProcess(engine, spec, directory, say=_teller(model.name))

    def watch(self, watcher: Callable[[str, Life], None]) -> None:
        """Call `watcher` whenever a model enters a phase."""
        self._watchers.append(watcher)

    def changed(self, model: str, life: Life) -> None:
        reason = f": {life.reason}" if life.phase in (Phase.WAITING, Phase.FAILED) else ""
        log.info("%s is %s%s", model, life.phase, reason)
        for watcher in self._watchers:
            watcher(model, life)


def check_engines(config: Config) -> list[Engine]:
    """The engines of the configuration, each installed. Raises CheckFailed."""
    names = [name for name in type(config.engines).model_fields if getattr(config.engines, name)]
    if not names:
        raise CheckFailed(
            "An engine is needed to serve.",
            found="The configuration has no section [engines.…].",
            works="[engines.vllm] with the place of a vLLM environment.",
            how="Run `pyinfra inventory.py deploy.py`, which installs it and writes the section.",
        )
    found = [engines.for_name(name, config) for name in names]
    for engine in found:
        engine.check_installed()
    return found


@contextlib.asynccontextmanager
async def running(
    config: Config, world: World, sockets: Listeners, api_keys: keys.Keys
) -> AsyncIterator[Scheduler]:
    """Serve while the block runs; after it no engine process is left.

    Raises RigError where no model can be planned.
    """
    ended = await sweep(config.state_directory / "engines")
    if ended:
        log.warning("ended %d processes that a killed service had left", ended)
    gateway = config.gateway
    limits = Limits(
        gateway.queue_limit, gateway.queue_timeout_seconds, gateway.drain_timeout_seconds
    )
    scheduler = Scheduler(config.models, world, limits)
    since = time.time()

    def status() -> dict[str, object]:
        return status_of(scheduler, address=sockets.address, since=since)

    async with (
        upstream_session(gateway.silence_timeout_seconds) as session,
        serving(
            api.application(scheduler, session, api_keys, max_body_bytes=gateway.max_body_bytes),
            sockets.gateway,
        ),
        serving(control.application(status), sockets.control),
    ):
        try:
            await scheduler.start()
            yield scheduler
        finally:
            await scheduler.stop()


def free_port() -> int:
    """A port that is free now; an engine that finds it taken is started again with another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def available_memory_bytes() -> int:
    """What the kernel says can be allocated without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * KIB
    raise CheckFailed("The kernel must tell the available memory.", found="/proc/meminfo does not.")


def _teller(model: str) -> Callable[[str], None]:
    return lambda line: engine_output.info("%s: %s", model, line)
