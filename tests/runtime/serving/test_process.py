"""One engine process, over a real stand-in: ready when it answers, ended whole, nothing left."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from rig_runtime import models, procfs
from rig_runtime.config import ModelConfig, VllmConfig
from rig_runtime.engines.vllm import Vllm
from rig_runtime.gpus import load_rig
from rig_runtime.plan import PlanRequest, plan_model
from rig_runtime.process import (
    EngineFailed,
    EngineProcess,
    ProcessState,
    Timings,
    own_directory,
    sweep,
)
from rig_runtime.service import free_port

pytestmark = pytest.mark.anyio

FAST = Timings(
    start_poll_seconds=0.02,
    health_interval_seconds=0.05,
    health_timeout_seconds=0.3,
    health_misses=2,
)


@pytest.fixture
async def engine(stand_in: Any, tmp_path: Path, rigs: Path) -> AsyncIterator[EngineProcess]:
    """A process over the stand-in, not started; what a failed test leaves of it is killed."""
    settings = VllmConfig(
        venv=stand_in.venv, build="cpu", start_timeout_seconds=20.0, stop_timeout_seconds=1.0
    )
    vllm = Vllm(settings, state_directory=tmp_path / "state")
    model = ModelConfig(name="tiny", path=stand_in.model)
    request = PlanRequest(context_tokens=1024, tensor_parallel_size=2)
    plan = plan_model(models.read_shape(model.path), load_rig(rigs / "reference.json"), request)
    directory = own_directory(tmp_path / "engines", "tiny")
    spec = vllm.launch(plan, model, port=free_port(), directory=directory)
    process = EngineProcess(vllm, spec, directory, say=lambda line: None, timings=FAST)
    yield process
    for survivor in procfs.members(session=None, directory=directory):
        os.kill(survivor.pid, signal.SIGKILL)


@pytest.fixture
def left(tmp_path: Path, own_shared_files: Callable[[], set[str]]) -> Callable[[], list[object]]:
    """All that there should be nothing of after an end."""
    engines = tmp_path / "engines"
    return lambda: [
        *procfs.members(session=None, directory=engines),
        *own_shared_files(),
        *engines.iterdir(),
    ]


Left = Callable[[], list[object]]


async def test_it_is_ready_when_it_answers_and_leaves_nothing(
    engine: EngineProcess, stand_in: Any, left: Left
) -> None:
    stand_in.manners(start_seconds=0.3, unready_probes=2, say=["Starting to load model x"])
    await engine.start()
    assert str(engine.state) == "ready"
    assert engine.progress == "reading weights"
    assert len(engine.pids()) == 3
    assert len(left()) > 3
    await engine.stop()
    assert str(engine.state) == "stopped"
    assert left() == []


async def test_a_second_stop_is_nothing(engine: EngineProcess) -> None:
    await engine.start()
    await asyncio.gather(engine.stop(), engine.stop())
    await engine.stop()
    assert engine.state is ProcessState.STOPPED


async def test_an_exit_while_starting_tells_why(
    engine: EngineProcess, stand_in: Any, left: Left
) -> None:
    text = "Total number of attention heads (4) must be divisible by tensor parallel size (3)."
    stand_in.manners(say=["loading", f"ValueError: {text}"], exit=1)
    with pytest.raises(EngineFailed, match="must be divisible") as caught:
        await engine.start()
    assert caught.value.permanent
    assert "exited with status 1" in str(caught.value)
    assert left() == []


async def test_an_exit_with_unknown_words_may_be_tried_again(
    engine: EngineProcess, stand_in: Any
) -> None:
    stand_in.manners(say=["hm", "RuntimeError: all is lost", "bye"], exit=0)
    with pytest.raises(EngineFailed, match="It said: RuntimeError: all is lost") as caught:
        await engine.start()
    assert not caught.value.permanent


async def test_a_program_that_is_not_there(engine: EngineProcess, left: Left) -> None:
    engine.spec = replace(engine.spec, argv=("/nowhere/vllm",))
    with pytest.raises(EngineFailed, match="cannot be run") as caught:
        await engine.start()
    assert caught.value.permanent
    assert left() == []


async def test_a_start_has_a_deadline(engine: EngineProcess, stand_in: Any, left: Left) -> None:
    stand_in.manners(start_seconds=60)
    engine.spec = replace(engine.spec, start_timeout_seconds=0.5)
    with pytest.raises(EngineFailed, match="did not answer within"):
        await engine.start()
    assert left() == []


async def test_an_engine_that_hangs_at_its_first_request_is_not_ready(
    engine: EngineProcess, stand_in: Any, left: Left
) -> None:
    stand_in.hang(True)
    engine.spec = replace(engine.spec, start_timeout_seconds=0.5)
    with pytest.raises(EngineFailed, match="did not answer within"):
        await engine.start()
    assert left() == []


async def test_a_cancelled_start_leaves_nothing(
    engine: EngineProcess, stand_in: Any, left: Left, until: Callable[..., Any]
) -> None:
    stand_in.manners(start_seconds=60)
    start = asyncio.create_task(engine.start())
    await asyncio.to_thread(until, stand_in.starts, "its start")
    start.cancel()
    await asyncio.wait({start})
    assert start.cancelled()
    assert left() == []


@pytest.mark.parametrize("victim", ["vllm", "VLLM::Worker_TP"])
async def test_a_killed_process_ends_all(engine: EngineProcess, victim: str, left: Left) -> None:
    """The API server's orphans live on; a dead worker is noticed at once."""
    await engine.start()
    pids = engine.pids()
    leader = pids[0]
    pid = leader if victim == "vllm" else pids[-1]
    os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    error = await asyncio.wait_for(engine.failure(), 5)
    assert time.monotonic() - started < 3
    assert ("SIGKILL" if pid == leader else "VLLM::Worker_TP") in str(error)
    assert not error.permanent
    await engine.stop()
    assert engine.state is ProcessState.FAILED
    assert left() == []


async def test_an_exit_with_0_is_a_failure_too(
    engine: EngineProcess, stand_in: Any, left: Left
) -> None:
    stand_in.manners(die_after_chunks=1)
    await engine.start()
    async with aiohttp.ClientSession(engine.spec.base_url) as session:
        body = {"model": "tiny", "stream": True}
        async with session.post("/v1/completions", json=body) as response:
            with pytest.raises(aiohttp.ClientError):
                await response.read()
    error = await asyncio.wait_for(engine.failure(), 5)
    assert "exited with status 0" in str(error)
    await engine.stop()
    assert left() == []


async def test_a_hang_is_noticed(engine: EngineProcess, stand_in: Any, left: Left) -> None:
    await engine.start()
    stand_in.hang(True)
    error = await asyncio.wait_for(engine.failure(), 10)
    assert "hangs" in str(error)
    await engine.stop()
    assert left() == []


async def test_a_short_silence_is_no_hang(engine: EngineProcess, stand_in: Any) -> None:
    await engine.start()
    failure = asyncio.create_task(engine.failure())
    for is_hanging in (True, False) * 3:
        stand_in.hang(is_hanging)
        await asyncio.sleep(0.2)
    assert not failure.done()
    failure.cancel()
    await asyncio.wait({failure})
    await engine.stop()


async def test_a_deaf_engine_is_killed_after_the_grace(
    engine: EngineProcess, stand_in: Any, left: Left
) -> None:
    stand_in.manners(is_deaf=True)
    await engine.start()
    started = time.monotonic()
    await engine.stop()
    assert 0.9 < time.monotonic() - started < 5
    assert left() == []


async def test_a_killed_service_is_swept_up(
    engine: EngineProcess, tmp_path: Path, left: Left
) -> None:
    await engine.start()
    assert await sweep(tmp_path / "engines") == 3
    assert left() == []


async def test_a_long_line_and_bytes_that_are_no_text_are_heard(
    engine: EngineProcess, stand_in: Any
) -> None:
    stand_in.manners(say=["x" * 100_000, "\udcff end", "a\rb"], exit=3)
    with pytest.raises(EngineFailed, match="status 3"):
        await engine.start()
    heard = "".join(engine.log_tail)
    assert heard.count("x") == 100_000
    assert list(engine.log_tail)[-2:] == ["a", "b"]
