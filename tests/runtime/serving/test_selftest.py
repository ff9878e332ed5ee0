"""`rig-runtime selftest`, over the stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def selftest(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rig_runtime", "selftest", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def config(tmp_path: Path, stand_in: Any) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[engines.vllm]\nvenv = "{stand_in.venv}"\nbuild = "cpu"\n')
    return path


def test_it_only_makes_the_model(tmp_path: Path) -> None:
    done = selftest("--make-only", str(tmp_path / "tiny"), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"directory": str(tmp_path / "tiny")}
    assert (tmp_path / "tiny" / "model.safetensors").exists()


def test_it_serves_on_the_planned_cards_and_leaves_nothing(
    config: Path, rigs: Path, own_shared_files: Callable[[], set[str]]
) -> None:
    done = selftest(
        *("--config", str(config), "--rig", str(rigs / "reference.json")),
        *("--tensor-parallel-size", "2", "--json"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["answer"] == "a whole answer"
    assert report["streamed_answer"] == "0 1 2 "
    (model,) = report["status"]["models"]
    assert len({rank["uuid"] for rank in model["ranks"]}) == 2
    assert own_shared_files() == set()


def test_without_a_card_it_serves_on_the_cpu(config: Path, rigs: Path) -> None:
    done = selftest("--config", str(config), "--rig", str(rigs / "no-cards.json"))
    assert done.returncode == 0, done.stderr
    assert "the CPU" in done.stdout
    assert "the self-test passed" in done.stdout


def test_without_an_engine_it_says_what_to_install(tmp_path: Path, rigs: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    done = selftest("--config", str(config), "--rig", str(rigs / "reference.json"))
    assert done.returncode == 1
    assert "deploy.py" in done.stderr
