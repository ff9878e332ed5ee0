"""The wheels of a virtual rig's mirror: downloaded on this side, where the registries are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.locks import CHECKOUT, TORCH_CPU_INDEX
from tasks.problems import Problem


def fill(requirements: list[tuple[Path, str]]) -> Problem | None:
    """Put the wheels of some requirement files, each for a Python version, into the mirror.

    What was downloaded once is kept. The problem that stands in the way, or None.
    """
    for path, python in requirements:
        wanted = ("--wheels", str(path), "--python-version", python)
        elsewhere = ("--fallback-index", TORCH_CPU_INDEX)
        done = subprocess.run(
            [sys.executable, "-m", "virtual_rig", "mirror", *wanted, *elsewhere],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return Problem(
                f"the wheels of {path.name} must be in the virtual rig's mirror",
                found=done.stderr.strip()[-800:],
                how="mend that on this machine, then run this again",
            )
    return None
