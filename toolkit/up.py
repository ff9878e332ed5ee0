"""`./rig up [HOST...]`: provision, then show the plan, the gateway and the answer to one chat."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import virtual_rig
from rig_runtime.errors import BadInput, CheckFailed, RigError
from tasks.hosts import NO_HOSTS
from tasks.keys import key_folder
from toolkit import chat, needs
from toolkit.remote import Remote
from virtual_rig.base import SUITES

ROOT = Path(__file__).resolve().parent.parent
NAME = "rig"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Hosts to provision; for the virtual rig, its Debian and its cards."""
    parser.add_argument(
        "hosts", nargs="*", metavar="HOST", help="real hosts; none: inventory.py's, or virtual"
    )
    parser.add_argument("--suite", default="bookworm", choices=SUITES)
    parser.add_argument(
        "--cards", type=Path, default=virtual_rig.MINING_RIG, help="a rig snapshot: its cards"
    )


def run(arguments: argparse.Namespace) -> int:
    """Raises RigError where something is missing, and CheckFailed where a host did not converge."""
    environment = dict(os.environ)
    if arguments.hosts:
        environment["RIG_HOSTS"] = os.environ["RIG_HOSTS"] = ",".join(arguments.hosts)
    if all(data.get("virtual") for _, data in _hosts()):
        _virtual(arguments.suite, arguments.cards)
    _deploy(environment)
    for name, data in _hosts():
        _show(Remote(name, data))
    return 0


def _hosts() -> list[tuple[str, Mapping[str, Any]]]:
    """The hosts of inventory.py as pyinfra reads it, each with its own data; none is none.

    Raises BadInput with what inventory.py refuses.
    """
    try:
        rigs = runpy.run_path(str(ROOT / "inventory.py"))["rigs"]
    except SystemExit as refusal:
        if str(NO_HOSTS) in str(refusal):
            return []
        raise BadInput(str(refusal)) from refusal
    return [(rig, {}) if isinstance(rig, str) else rig for rig in rigs]


def _virtual(suite: str, cards: Path) -> None:
    """Bring up the embedded default, unless it is up already."""
    needs.ensure_virtual_rig()
    if virtual_rig.find(NAME) is None:
        _step(f"starting the virtual rig: a bare Debian ({suite}) in a container")
        virtual_rig.up(NAME, suite=suite, cards=cards, tell=_step)


def _deploy(environment: Mapping[str, str]) -> None:
    """Run pyinfra as a person would; its own output says which host failed and why."""
    words = ["pyinfra", "-y", "inventory.py", "deploy.py"]
    _step(" ".join(words))
    program = Path(sys.executable).with_name("pyinfra")
    done = subprocess.run([str(program), *words[1:]], cwd=ROOT, env=dict(environment), check=False)
    if done.returncode:
        raise CheckFailed(
            "The deploy must succeed on every host",
            found="it did not; the lines above say on which, and why",
            how="Mend that and run this again: it goes on from where it stopped",
        )


def _show(host: Remote) -> None:
    """The plan, the gateway's address, one chat, and a line to try."""
    _step(f"{host.name}: the plan")
    print(host.run("rig-runtime plan"), end="")
    status = json.loads(host.run("rig-runtime status --json"))
    model = status["models"][0]["name"]
    gateway = urlsplit(status["address"])
    port = gateway.port or 80
    header = _key_header(host)
    if gateway.hostname in LOOPBACK:
        base_url = f"http://127.0.0.1:{port}"
        with host.forward(port) as local:
            answer = _answer(host, f"http://127.0.0.1:{local}", model, header)
        tunnel = " ".join(host.ssh("-N", "-L", f"{port}:127.0.0.1:{port}"))
        print(f"\ngateway   {base_url}/v1, on {host.name} alone; to reach it from here:\n{tunnel}")
    else:
        base_url = f"http://{host.address}:{port}"
        answer = _answer(host, base_url, model, header)
        print(f"\ngateway   {base_url}/v1")
    print(f"you       {chat.PROMPT}\n{model:9} {answer.strip()}")
    print(f"try       {chat.curl_line(base_url, model, header)}")


def _key_header(host: Remote) -> Path | None:
    """The file for curl that the deploy keeps beside the host's API key."""
    known_hosts = host.data["ssh_known_hosts_file"] if host.data.get("virtual") else None
    header = key_folder(host.name, known_hosts) / "api-key.header"
    return header if header.exists() else None


def _answer(host: Remote, base_url: str, model: str, header: Path | None) -> str:
    _step(f"{host.name}: waiting until {model} answers")
    started = time.monotonic()
    try:
        chat.await_ready(base_url)
        answer = chat.ask(base_url, model, _key(header))
    except RigError:
        print(host.run("rig-runtime status || true"), file=sys.stderr)
        raise
    print(f"ready after {time.monotonic() - started:.0f} s", file=sys.stderr)
    return answer


def _key(header: Path | None) -> str | None:
    """The key in a curl header file: 'Authorization: Bearer KEY'."""
    return header.read_text().split()[-1] if header else None


def _step(text: str) -> None:
    print(f"\n-- {text}", file=sys.stderr, flush=True)
