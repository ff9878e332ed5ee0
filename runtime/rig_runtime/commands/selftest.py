"""`rig-runtime selftest`: a tiny random model, planned on this rig's cards and served.

Proves an installation without a download: engine, cards, plan, gateway, streaming, a clean end.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from rig_runtime import config as configuration
from rig_runtime import service, tiny_model
from rig_runtime.cli import add_common_arguments
from rig_runtime.commands.inputs import rig_of
from rig_runtime.config import DEFAULT_PATH, Config, GatewayConfig, ModelConfig
from rig_runtime.errors import BadInput, CheckFailed
from rig_runtime.gateway.keys import Keys
from rig_runtime.lifecycle import Phase
from rig_runtime.scheduler import Scheduler
from rig_runtime.service import World
from rig_runtime.status import status_of

MODEL = "selftest"
QUESTION = "What is a rig of mismatched cards good for?"
ANSWER_TOKENS = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, rig=True)
    parser.add_argument("--make-only", type=Path, metavar="DIR", help="write the model and stop")
    parser.add_argument("--seed", type=int, default=0, help="other weights, other words")
    parser.add_argument("--tensor-parallel-size", type=ranks, metavar="N", help="so many ranks")
    parser.add_argument("--verbose", action="store_true", help="show the engine's output")


def ranks(text: str) -> int:
    """How many ranks, for argparse."""
    if text not in map(str, range(1, 9)):
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no whole number from 1 to 8")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Raises RigError with what does not work."""
    if arguments.make_only is not None:
        directory = _made(arguments.make_only, arguments.seed)
        print(json.dumps({"directory": str(directory)}) if arguments.json else directory)
        return 0
    level = logging.INFO if arguments.verbose else logging.ERROR
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=level)
    with tempfile.TemporaryDirectory(prefix="rig-selftest-") as scratch:
        config = _config(arguments, Path(scratch))
        service.check_engines(config)
        world = World(config, partial(rig_of, arguments))
        with service.listeners(config) as listeners:
            report = uvloop.run(_serve_and_ask(config, world, listeners))
    if arguments.json:
        print(json.dumps(report))
    else:
        _show(report)
    return 0


def _made(directory: Path, seed: int) -> Path:
    try:
        return tiny_model.make(directory, seed=seed)
    except OSError as error:
        raise BadInput(
            f"The model must be written to {directory}.",
            found=error.strerror or str(error),
            works="A directory that can be made or is there, on a disk with room.",
        ) from error


def _config(arguments: argparse.Namespace, scratch: Path) -> Config:
    """The installed engines and what is said of the cards; all else is the test's own."""
    installed = Config()
    if arguments.config is not None or DEFAULT_PATH.exists():
        installed = configuration.load(arguments.config, check_paths=False)
    model = ModelConfig(
        name=MODEL,
        path=tiny_model.make(scratch / "model", seed=arguments.seed),
        context_tokens=tiny_model.CONTEXT_TOKENS,
        tensor_parallel_size=arguments.tensor_parallel_size,
    )
    gateway = GatewayConfig(
        port=service.free_port(), control_socket=scratch / "run" / "control.sock"
    )
    return installed.model_copy(
        update={
            "gateway": gateway,
            "models": (model,),
            "state_directory": scratch / "state",
        }
    )


async def _serve_and_ask(
    config: Config, world: World, listeners: service.Listeners
) -> dict[str, Any]:
    started = time.monotonic()
    async with service.running(config, world, listeners, Keys({})) as scheduler:
        print("starting the engine: this takes about a minute", file=sys.stderr)
        await _until_ready(scheduler)
        ready_seconds = time.monotonic() - started
        async with aiohttp.ClientSession(listeners.address) as session:
            answer = await _ask(session)
            chunks = [chunk async for chunk in _ask_streamed(session)]
        status = status_of(scheduler, address=listeners.address, since=time.time())
        return {
            "ready_seconds": round(ready_seconds, 1),
            "question": QUESTION,
            "answer": answer,
            "streamed_answer": "".join(chunks),
            "chunks": len(chunks),
            "status": status,
        }


async def _until_ready(scheduler: Scheduler) -> None:
    """Raises CheckFailed with the engine's words on its first failure."""
    model = scheduler.model(MODEL)
    failed = (Phase.WAITING, Phase.FAILED)
    while model.life.phase is not Phase.READY:
        await model.next_change()
        if model.life.phase in failed:
            raise CheckFailed("The self-test must get an answer.", found=model.life.reason or "")


def _request(*, stream: bool) -> dict[str, object]:
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": ANSWER_TOKENS,
        "seed": 1,
        "stream": stream,
    }


async def _ask(session: aiohttp.ClientSession) -> str:
    async with session.post("/v1/chat/completions", json=_request(stream=False)) as response:
        body = await response.json()
        if response.status != 200:
            raise CheckFailed("A chat must be answered.", found=f"{response.status}: {body}")
        text: str = body["choices"][0]["message"]["content"]
        return text


async def _ask_streamed(session: aiohttp.ClientSession) -> AsyncIterator[str]:
    is_complete = False
    async with session.post("/v1/chat/completions", json=_request(stream=True)) as response:
        async for line in response.content:
            data = line.strip().removeprefix(b"data: ")
            if data == b"[DONE]":
                is_complete = True
            elif data:
                choices = json.loads(data).get("choices", ())
                for choice in choices:
                    yield choice["delta"].get("content") or ""
    if not is_complete:
        raise CheckFailed("A streamed chat must end with [DONE].", found="It ended without.")


def _show(report: dict[str, Any]) -> None:
    (model,) = report["status"]["models"]
    print(f"ready after {report['ready_seconds']} s")
    for rank in model["ranks"]:
        card = f"{rank['card']} ({rank['uuid']})" if rank["uuid"] else "the CPU"
        print(f"rank {rank['rank']}: process {rank['pid'] or '-'}, {card}")
    print(f"asked: {report['question']}")
    print(f"answered, with random words as the model's weights are: {report['answer'].strip()}")
    print(f"answered again, streamed in {report['chunks']} chunks")
    print("the self-test passed")
