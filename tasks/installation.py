"""What one host gets beyond the driver: environments, configuration, key, models."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.environments import Environment
from tasks.keys import api_key, key_line
from tasks.locks import runtime_environment, tools_environment, vllm_environment
from tasks.problems import Problem
from tasks.templates import render
from tasks.wishes import VllmBuild, Wishes

CONFIG = "/etc/rig-runtime/config.toml"
KEYS = "/etc/rig-runtime/api-keys"
# The same runtime on this side, as a program: the two sides meet in the configuration only.
CHECKER = Path(sys.executable).parent / "rig-runtime"


# python3-venv makes the first environment; vLLM's CPU build loads libnuma, and the CUDA build's
# Triton compiles its launchers on the rig.
PACKAGES = ("python3-venv",)
ENGINE_PACKAGES: Mapping[VllmBuild, tuple[str, ...]] = {
    "cpu": ("libnuma1",),
    "cuda": ("gcc", "libc6-dev", "python3-dev"),
}


@dataclass(frozen=True)
class Installation:
    """Everything that the running service depends on; its digest is stamped into the service."""

    tools: Environment
    runtime: Environment
    vllm: Environment | None
    config: str
    key_line: str
    packages: tuple[str, ...] = PACKAGES
    tiny_models: tuple[str, ...] = ()

    @property
    def environments(self) -> list[Environment]:
        """All of them, in the order in which they are made."""
        return [self.tools, *([self.vllm] if self.vllm else []), self.runtime]

    @property
    def digest(self) -> str:
        """Sixteen hex digits over configuration, keys, environments and the unit."""
        texts = (self.config, self.key_line, *self.packages)
        total = hashlib.sha256("\0".join(texts).encode())
        for environment in (self.runtime, self.vllm):
            total.update((environment.digest if environment else "none").encode())
        total.update(render("rig-runtime.service", digest="").encode())
        return total.hexdigest()[:16]


def install_plan(
    wishes: Wishes, build: VllmBuild | None, python: str | None, keys: Path
) -> Installation | list[Problem]:
    """Build and check on this side what will be put on the host; nothing is sent.

    `keys` is the folder on this side where the host's API key is kept.
    """
    config = configuration(wishes, build)
    if problems := configuration_problems(config):
        return problems
    return Installation(
        tools=tools_environment(wishes.mirror_url),
        runtime=runtime_environment(wishes.mirror_url),
        vllm=vllm_environment(build, python, wishes.mirror_url) if build and python else None,
        config=config,
        key_line=key_line(api_key(keys)),
        packages=(*PACKAGES, *(ENGINE_PACKAGES[build] if build else ())),
        tiny_models=tuple(model.path for model in wishes.models if model.tiny),
    )


def configuration(wishes: Wishes, build: VllmBuild | None) -> str:
    """The runtime's configuration: what the inventory states, and where things were put."""
    sections: dict[str, Mapping[str, Any]] = {
        "gateway": {"api_keys_file": KEYS, **wishes.gateway},
        "rig": wishes.rig,
    }
    if build:
        sections["engines.vllm"] = {"build": build, **wishes.vllm}
    models = [model.configuration() for model in wishes.models]
    return render("config.toml", sections=sections, models=models)


def configuration_problems(text: str) -> list[Problem]:
    """What the runtime's own check says of a configuration, asked on this side of the wire."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(text, encoding="utf-8")
        checked = subprocess.run(
            [str(CHECKER), "check", "--elsewhere", "--config", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
    if checked.returncode == 0:
        return []
    said = (checked.stderr or checked.stdout).strip().replace(str(path), CONFIG)
    return [
        Problem(
            "the inventory must give the runtime a valid configuration",
            found=said.removeprefix("rig-runtime check: "),
            how="change gateway, rig, vllm or models in inventory.py",
        )
    ]
