"""The wheelhouse: what pip installs in a box that need not reach an index itself."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from virtual_rig import paths
from virtual_rig.base import locked
from virtual_rig.errors import BadInput, VirtualRigError


def folder() -> Path:
    """The folder that the mirror serves as /wheels/, a page for pip's --find-links."""
    return paths.cache() / "mirror" / "wheels"


def add_wheels(
    requirements: Path, python_version: str = "3.11", *, fallback_index: str | None = None
) -> Path:
    """Download the wheels of this requirements file with this machine's pip settings.

    Done once for each content of the file; the wheels stay for the next box. Where they are not
    all to be had so, `fallback_index` is asked too.
    """
    try:
        text = requirements.read_bytes()
    except OSError as error:
        raise BadInput("The requirements file must be readable", found=str(error)) from error
    digest = hashlib.sha256(text + python_version.encode()).hexdigest()[:16]
    house = folder()
    done = house.parent / ".wheels-done" / digest
    done.parent.mkdir(parents=True, exist_ok=True)
    house.mkdir(parents=True, exist_ok=True)
    with locked(done.parent / ".lock"):
        if not done.exists():
            _download(requirements, python_version, house, fallback_index)
            done.touch()
    return house


def _download(requirements: Path, python_version: str, house: Path, fallback: str | None) -> None:
    """By the machine's own pip, not this environment's: it knows where packages come from."""
    argv = [_python(), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(house)]
    argv += ["--only-binary=:all:", "--python-version", python_version]
    argv += ["--requirement", str(requirements)]
    said = _failure(argv)
    if said and fallback:
        said = _failure([*argv, "--extra-index-url", fallback])
    if said:
        raise VirtualRigError(
            f"The wheels of {requirements} must be downloaded for the mirror",
            found=said,
            how="See where pip looks for packages with: pip config list",
        )


def _failure(argv: list[str]) -> str:
    """What the command said where it failed, else nothing."""
    outcome = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return (outcome.stderr.strip()[-800:] or "it failed") if outcome.returncode else ""


def _python() -> str:
    """A Python that has pip: environments made by uv have none."""
    for python in (sys.executable, "/usr/bin/python3"):
        asked = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return python
    raise VirtualRigError(
        "The wheels of the mirror are downloaded with pip",
        found=f"neither {sys.executable} nor /usr/bin/python3 has it",
        how="Run: apt-get install --yes python3-pip",
    )
