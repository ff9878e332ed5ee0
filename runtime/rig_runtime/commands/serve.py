"""`rig-runtime serve`: the service. Ends with 0 on SIGTERM or SIGINT, leaving nothing behind."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from functools import partial

import uvloop

from rig_runtime import config as configuration
from rig_runtime import service
from rig_runtime.cli import add_common_arguments
from rig_runtime.commands.inputs import rig_of
from rig_runtime.config import Config
from rig_runtime.errors import BadInput
from rig_runtime.gateway import keys
from rig_runtime.lifecycle import Life
from rig_runtime.notify import Notifier
from rig_runtime.service import Listeners, World

log = logging.getLogger("rig_runtime.serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, rig=True)


def run(arguments: argparse.Namespace) -> int:
    """Raises RigError with what is missing before anything is started."""
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = configuration.load(arguments.config)
    if not config.models:
        raise BadInput(
            "A model to serve is needed.",
            found="The configuration has no [[models]].",
            how="Add one with name and path, or try `rig-runtime selftest`.",
        )
    service.check_engines(config)
    api_keys = keys.load(config.gateway.api_keys_file)
    world = World(config, partial(rig_of, arguments))
    with service.listeners(config) as listeners:
        uvloop.run(_serve(config, world, listeners, api_keys))
    return 0


async def _serve(config: Config, world: World, listeners: Listeners, api_keys: keys.Keys) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    notifier = Notifier()
    async with service.running(config, world, listeners, api_keys) as scheduler:

        def tell(model: str, life: Life) -> None:
            phases = (f"{name} {served.life.phase}" for name, served in scheduler.models.items())
            notifier.send(STATUS=", ".join(phases))

        world.watch(tell)
        notifier.send(READY=1, STATUS="loading the models")
        log.info("serving on %s", listeners.address)
        background = [
            asyncio.create_task(scheduler.watch()),
            asyncio.create_task(notifier.keep_alive()),
        ]
        stopping = asyncio.create_task(stop.wait())
        with contextlib.ExitStack() as stack:
            for task in background:
                stack.callback(task.cancel)
            await asyncio.wait({background[0], stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                stopping.cancel()
                background[0].result()
        log.info("stopping: running answers have %.0f s", config.gateway.drain_timeout_seconds)
        notifier.send(STOPPING=1, STATUS="draining")
