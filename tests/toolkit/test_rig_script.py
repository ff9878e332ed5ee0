"""The shell script `rig`: finds a Python, makes the environment, and says what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHELL_TOOLS = ("sh", "cat", "cksum", "dirname", "id", "rm")


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH folder with a shell and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in SHELL_TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (folder / tool).symlink_to(found)
    return folder


def rig(folder: Path, path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script that has no environment yet."""
    folder.mkdir()
    for name in ("rig", "uv.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("*.pyc"))
    return subprocess.run(
        [str(folder / "rig"), *words],
        env=dict(os.environ, PATH=str(path)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_python_it_says_what_to_install(tmp_path: Path, bare_path: Path) -> None:
    done = rig(tmp_path / "a clone", bare_path, "test")
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_an_old_python_is_not_taken(tmp_path: Path, bare_path: Path) -> None:
    old = bare_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = rig(tmp_path / "clone", bare_path, "test")
    assert done.returncode == 1
    assert "needs Python 3.11" in done.stderr


def test_usage_names_the_commands() -> None:
    done = subprocess.run([str(ROOT / "rig"), "--help"], capture_output=True, text=True, check=True)
    for command in ("up", "down", "test"):
        assert command in done.stdout


def test_an_unknown_command_is_bad_usage() -> None:
    done = subprocess.run(
        [str(ROOT / "rig"), "reboot"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
