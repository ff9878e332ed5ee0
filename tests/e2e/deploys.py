"""Deploys to virtual rigs as a person runs them: `pyinfra INVENTORY deploy.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import virtual_rig

ROOT = Path(__file__).resolve().parents[2]
PYINFRA = Path(sys.executable).parent / "pyinfra"
DEPLOY_SECONDS = 1500
REBOOT_SECONDS = 60

TINY = {"name": "tiny", "path": "/var/lib/rig-runtime/models/tiny", "tiny": True}


@dataclass(frozen=True)
class Outcome:
    """One run of pyinfra: its exit code, what it said, and what it changed."""

    returncode: int
    said: str
    seconds: float
    results: Mapping[str, Any] | None

    @property
    def changed(self) -> list[str]:
        """The operations that changed the host."""
        return [op["name"] for op in (self.results or {}).get("operations", []) if op["success"]]

    @property
    def last_words(self) -> str:
        """For the message of an assertion."""
        return self.said[-4000:]


@dataclass(frozen=True)
class Target:
    """A box, and the inventory that describes it."""

    box: virtual_rig.Box
    folder: Path
    user: str = "root"
    data: Mapping[str, Any] = field(default_factory=dict)

    def inventory(self, **changes: object) -> Path:
        """The inventory file, with changes to the host's data."""
        name, data = self.box.pyinfra_host(self.user)
        entry = (name, {**data, "models": [TINY], **self.data, **changes})
        path = self.folder / "inventory.py"
        path.write_text(f"rigs = [{entry!r}]\n", encoding="utf-8")
        return path

    def deploy(self, **changes: object) -> Outcome:
        """One whole run."""
        started = time.monotonic()
        done = subprocess.run(
            self._command(self.inventory(**changes)),
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEPLOY_SECONDS,
            check=False,
        )
        results = json.loads(done.stdout)["results"] if done.stdout.strip() else None
        return Outcome(done.returncode, done.stderr, time.monotonic() - started, results)

    def deploy_killed_at(self, operation: str) -> bool:
        """A run that is killed as soon as it starts the operation; whether it came so far."""
        process = subprocess.Popen(
            self._command(self.inventory()),
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        with process:
            reached = any(
                "Starting operation" in line and operation in line for line in process.stderr
            )
            process.kill()
        return reached

    def on_rig(self, command: str) -> str:
        """The output of a command in the box, run as root."""
        return subprocess.run(
            self.box.ssh_command([command]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    def reboot(self) -> None:
        """Reboot the box and wait until it has booted anew."""
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.on_rig(boot)
        self.on_rig("systemctl reboot")
        deadline = time.monotonic() + REBOOT_SECONDS
        while self.on_rig(boot) in ("", before):
            assert time.monotonic() < deadline, "the box does not come back"
        self.on_rig("systemctl is-system-running --wait")

    def cards(self, *words: str) -> None:
        """Change the box's cards: `python -m virtual_rig cards NAME …`."""
        subprocess.run(
            [sys.executable, "-m", "virtual_rig", "cards", self.box.name, *words],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )

    @staticmethod
    def _command(inventory: Path) -> Sequence[str]:
        return [str(PYINFRA), str(inventory), "deploy.py", "-y", "--json"]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
