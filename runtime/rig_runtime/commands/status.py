"""`rig-runtime status`: what is resident on which card, asked of the running service."""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import aiohttp
from rich.table import Table

from rig_runtime import config as configuration
from rig_runtime.cli import add_common_arguments
from rig_runtime.commands.console import Output
from rig_runtime.config import DEFAULT_PATH, Config
from rig_runtime.errors import CheckFailed
from rig_runtime.gateway.control import STATUS_PATH
from rig_runtime.units import tokens

TIMEOUT_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--socket", type=Path, help="the control socket, instead of --config's")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 where every model is ready or loading, 1 where one failed."""
    status = asyncio.run(ask(arguments.socket or _configured_socket(arguments.config)))
    if arguments.json:
        print(json.dumps(status))
    else:
        _show(status)
    return 1 if any(model["phase"] == "failed" for model in status["models"]) else 0


def _configured_socket(path: Path | None) -> Path:
    if path is None and not DEFAULT_PATH.exists():
        return Config().gateway.control_socket
    return configuration.load(path, check_paths=False).gateway.control_socket


async def ask(control_socket: Path) -> dict[str, Any]:
    """The service's own answer. Raises CheckFailed where no service answers."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    connector = aiohttp.UnixConnector(str(control_socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"http://localhost{STATUS_PATH}") as response,
        ):
            status: dict[str, Any] = await response.json()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EACCES:
            raise _not_allowed(control_socket) from error
        found = os.strerror(number).lower() if number else str(error) or type(error).__name__
        raise CheckFailed(
            "The service must run to tell its status.",
            found=f"Nothing answers on {control_socket} ({found}).",
            how="`systemctl status rig-runtime` and `journalctl -u rig-runtime` say why; "
            "`systemctl start rig-runtime` starts it.",
        ) from error
    if not isinstance(status, dict) or not isinstance(status.get("models"), list):
        raise CheckFailed(
            f"The service on {control_socket} must tell its status.",
            found="What answers there is no rig-runtime of this version.",
            how="`systemctl restart rig-runtime`, or name another socket with --socket.",
        )
    return status


def _not_allowed(control_socket: Path) -> CheckFailed:
    return CheckFailed(
        f"The control socket {control_socket} must be readable by you.",
        found="Permission denied.",
        how="Use sudo, or join the group that owns it.",
    )


def _show(status: dict[str, Any]) -> None:
    console = Output(highlight=False)
    console.print(f"serving on {status['address']} for {_age(status['since'])}")
    models = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("MODEL", "PHASE", "FOR", "ENGINE", "SPLIT", "CONTEXT", "REQUESTS"):
        models.add_column(title)
    for model in status["models"]:
        models.add_row(
            model["name"],
            " ".join(part for part in (model["phase"], model["progress"]) if part)
            if model["phase"] == "starting"
            else model["phase"],
            _age(model["since"]),
            model["engine"] or "-",
            _split(model["plan"]),
            tokens(model["plan"]["context_tokens"]) if model["plan"] else "-",
            f"{model['requests_running']} running, {model['requests_waiting']} waiting",
        )
    console.print(models)
    ranks = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("MODEL", "RANK", "PROCESS", "CARD", "UUID"):
        ranks.add_column(title, overflow="fold")
    for model in status["models"]:
        for rank in model["ranks"]:
            ranks.add_row(
                model["name"],
                str(rank["rank"]),
                str(rank["pid"] or "-"),
                rank["card"] or "CPU",
                rank["uuid"] or "-",
            )
    if ranks.row_count:
        console.print()
        console.print(ranks)
    for model in status["models"]:
        if model["reason"]:
            word = "failed" if model["phase"] == "failed" else "last failure of"
            console.print(f"\n{word} {model['name']}: {model['reason']}", markup=False)


def _split(plan: dict[str, Any] | None) -> str:
    if plan is None:
        return "-"
    sizes = (
        f"{word} {plan[key]}"
        for word, key in (("TP", "tensor_parallel_size"), ("PP", "pipeline_parallel_size"))
        if plan[key] > 1
    )
    return " x ".join(sizes) or "one card"


def _age(since: float) -> str:
    seconds = max(0, int(time.time() - since))
    for size, letter in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {letter}"
    return f"{seconds} s"
