"""Plan -> LaunchSpec, and each engine's own manners: one module an engine.

The rest of the runtime knows engines only by the protocol below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rig_runtime.config import Config, ModelConfig
from rig_runtime.errors import CheckFailed
from rig_runtime.plan_types import Plan


@dataclass(frozen=True)
class LaunchSpec:
    """All that is needed to start one engine process and to ask it whether it is up."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    base_url: str
    served_name: str
    ranks: int
    start_timeout_seconds: float
    stop_timeout_seconds: float
    health_path: str = "/health"
    probe_path: str = "/v1/completions"
    probe_body: Mapping[str, object] = field(default_factory=dict)
    vital_process_names: tuple[str, ...] = ()
    """Prefixes of the names of the descendants without which the engine is dead."""
    shared_memory_prefixes: tuple[str, ...] = ()
    """How the names of the engine's files in /dev/shm begin."""


@dataclass(frozen=True)
class Diagnosis:
    """What an engine's last words mean. `permanent`: another start would end the same way."""

    cause: str
    text: str
    permanent: bool


class Engine(Protocol):
    """One engine's manners; no state, no side effects but reading its own installation."""

    name: str

    def check_installed(self) -> None:
        """Raise `CheckFailed`, with what to install, where the engine is not there."""

    def launch(self, plan: Plan, model: ModelConfig, *, port: int, directory: Path) -> LaunchSpec:
        """How to start the engine for this plan; `directory` is the process's own."""

    def rank(self, command_line: str) -> int | None:
        """Which rank a descendant of this name is, if it is one."""

    def progress(self, line: str) -> str | None:
        """A short word on how far a start is, if this line of output says so."""

    def diagnose(self, lines: Sequence[str]) -> Diagnosis | None:
        """Why the engine ended, if its output says so."""


def for_name(name: str, config: Config) -> Engine:
    """The engine that a plan names. Raises CheckFailed where the configuration lacks it."""
    from rig_runtime.engines.vllm import Vllm

    if name == "vllm" and config.engines.vllm is not None:
        return Vllm(config.engines.vllm, state_directory=config.state_directory)
    raise CheckFailed(
        f"The engine {name} is needed.",
        found="The configuration has no section for it.",
        works=f"A section [engines.{name}] that says where it is installed.",
        how="Run `pyinfra inventory.py deploy.py`, which installs it and writes the section.",
    )
