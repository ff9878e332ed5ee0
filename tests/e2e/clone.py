"""A fresh copy of the checkout, as a newcomer's clone, and the commands that they would type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UP_SECONDS = 900
WARM_UP_SECONDS = 180


@dataclass(frozen=True)
class Clone:
    """A copy of the checkout in a folder of its own, with boxes of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(
        self, *words: str, timeout_seconds: float = UP_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone with its own environment; no terminal, no input."""
        return subprocess.run(
            words,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The clone's own Python."""
        return self.run(".venv/bin/python", *words)

    def on_rig(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command on the virtual rig, as root over SSH."""
        return self.python("-m", "virtual_rig", "ssh", "rig", command)

    def armed(self, command: str) -> subprocess.Popen[str]:
        """A command on the rig that runs as soon as a line is written to its input."""
        words = [".venv/bin/python", "-m", "virtual_rig", "ssh", "rig"]
        process = subprocess.Popen(
            [*words, f"echo armed; read _; {command}"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        assert process.stdout.readline() == "armed\n"
        return process

    def status(self) -> dict[str, Any]:
        """`rig-runtime status --json` on the rig; empty while no service answers."""
        done = self.on_rig("rig-runtime status --json")
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        return answer if "models" in answer else {}


@dataclass(frozen=True)
class Newcomer:
    """A clone whose `./rig up` has run, and what it printed."""

    clone: Clone
    output: str
    messages: str
    seconds: float


def copy_checkout(folder: Path) -> Path:
    """What a clone of the working tree would hold: no environment, no cache, nothing ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def make_clone(folder: Path, state: Path, extra: Sequence[tuple[str, str]] = ()) -> Clone:
    """A clone whose boxes live in `state`; caches are this machine's."""
    environment = dict(os.environ, VIRTUAL_RIG_STATE=str(state), **dict(extra))
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "RIG_HOSTS"):
        environment.pop(name, None)
    return Clone(copy_checkout(folder), environment)
