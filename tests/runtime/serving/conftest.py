"""Fixtures: a stand-in for vLLM where vLLM would be installed, and the real service over it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from rig_runtime import procfs, tiny_model
from rig_runtime.service import free_port

HERE = Path(__file__).parent
RIGS = HERE.parent / "data" / "rigs"
PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="session")
def rigs() -> Path:
    """Snapshots of rigs."""
    return RIGS


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition of another process; returns its value."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return value


@pytest.fixture(name="until")
def until_fixture() -> Callable[[Callable[[], Any], str], Any]:
    return until


@dataclass
class StandIn:
    """A directory that looks like a vLLM environment, and a model whose manners can be set."""

    venv: Path
    model: Path

    def manners(self, **values: object) -> None:
        (self.model / "manners.json").write_text(json.dumps(values))

    def starts(self) -> list[int]:
        """The process ids of all starts until now."""
        try:
            return [int(line) for line in (self.model / "starts").read_text().split()]
        except OSError:
            return []

    def hang(self, is_hanging: bool) -> None:
        flag = self.model / "hang"
        flag.touch() if is_hanging else flag.unlink(missing_ok=True)


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    model = tiny_model.make(tmp_path / "model")
    binary = tmp_path / "venv" / "bin" / "vllm"
    binary.parent.mkdir(parents=True)
    script = HERE / "stand_in_vllm.py"
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{script}" "$@"\n')
    binary.chmod(0o755)
    made = StandIn(tmp_path / "venv", model)
    made.manners()
    return made


@dataclass
class Service:
    """A real `rig-runtime serve`, as a process of its own."""

    directory: Path
    config: Path
    arguments: list[str]
    process: subprocess.Popen[bytes] = field(init=False)
    address: str = ""

    def start(self, **environment: str) -> None:
        log = (self.directory / "log").open("wb")
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rig_runtime", "serve", *self.arguments],
                stdout=log,
                stderr=log,
                env=os.environ | environment,
            )
        until(self._is_up, f"the service: {self.log()}")

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return bool(httpx.get(f"{self.address}/health").status_code == 200)
        except httpx.TransportError:
            return False

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def status(self) -> dict[str, Any]:
        transport = httpx.HTTPTransport(uds=str(self.directory / "run" / "control.sock"))
        with httpx.Client(transport=transport) as client:
            answer: dict[str, Any] = client.get("http://localhost/rig/status").json()
            return answer

    def model(self) -> dict[str, Any]:
        model: dict[str, Any] = self.status()["models"][0]
        return model

    def until_phase(self, phase: str) -> dict[str, Any]:
        found: dict[str, Any] = until(
            lambda: model if (model := self.model())["phase"] == phase else None, phase
        )
        return found

    def engine_processes(self) -> list[procfs.Process]:
        return procfs.members(
            session=None, directory=self.directory.resolve() / "state" / "engines"
        )

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def end(self) -> None:
        """Stop it if it runs, whatever a test has done to it."""
        if hasattr(self, "process") and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_SECONDS)
            self.process.kill()
            self.process.wait()
        for process in self.engine_processes():
            os.kill(process.pid, signal.SIGKILL)

    @classmethod
    def make(
        cls,
        directory: Path,
        vllm: str,
        model: Path,
        rig: Path,
        *,
        gateway: str = "",
        port: int | None = None,
    ) -> Service:
        """A service that serves `model` as "tiny"; `vllm` and `gateway` are lines of sections."""
        chosen = port or free_port()
        config = directory / "config.toml"
        config.write_text(
            f"""
state_directory = "{directory}/state"
[gateway]
port = {chosen}
control_socket = "{directory}/run/control.sock"
{gateway}
[engines.vllm]
{vllm}
[[models]]
name = "tiny"
path = "{model}"
tensor_parallel_size = 2
context_tokens = 2048
"""
        )
        arguments = ["--config", str(config), "--rig", str(rig)]
        return cls(directory, config, arguments, address=f"http://127.0.0.1:{chosen}")


@pytest.fixture(scope="session")
def service_type() -> type[Service]:
    return Service


ServiceMaker = Callable[..., Service]


@pytest.fixture
def make_service(tmp_path: Path, stand_in: StandIn, rigs: Path) -> Iterator[ServiceMaker]:
    """Make a service over the stand-in; `gateway` are lines of its section."""
    made: list[Service] = []

    def make(gateway: str = "", *, port: int | None = None) -> Service:
        directory = tmp_path / f"service{len(made)}"
        directory.mkdir()
        vllm = (
            f'venv = "{stand_in.venv}"\nbuild = "cpu"\n'
            "stop_timeout_seconds = 2.0\nstart_timeout_seconds = 20.0"
        )
        rig = rigs / "reference.json"
        service = Service.make(directory, vllm, stand_in.model, rig, gateway=gateway, port=port)
        made.append(service)
        return service

    yield make
    for service in made:
        service.end()


@pytest.fixture
def own_shared_files() -> Callable[[], set[str]]:
    """Names in /dev/shm that a stand-in made since the test began."""
    before = set(procfs.all_shared_files())
    return lambda: {
        file.name for file in set(procfs.all_shared_files()) - before if "standin" in file.name
    }
