"""Killed at the worst moment: what dies with it, what `down` removes, and that `up` goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.virtual_rig import leftovers, within
from virtual_rig import api, down, record, up

CHECKOUT = Path(__file__).parents[2]
NAME = "tvr-crash"

pytestmark = [pytest.mark.box, pytest.mark.timeout(600)]


def _victim(folder: Path, whom: str) -> int:
    there = record.read(folder)
    assert there
    if whom == "supervisor":
        return there.supervisor_pid
    others = [pid for pid in record.processes_naming(folder) if pid != there.supervisor_pid]
    return others[0]


@pytest.mark.parametrize("whom", ["supervisor", "container"])
@pytest.mark.parametrize("then", ["down", "up"])
def test_killed_it_is_dead_and_nothing_of_it_stays(boxes: Path, whom: str, then: str) -> None:
    folder = boxes / NAME
    up(NAME)
    there = record.read(folder)
    assert there
    os.kill(_victim(folder, whom), signal.SIGKILL)
    within.until(lambda: api.phase_of(folder) == "dead")
    within.until(lambda: not record.processes_naming(folder))
    if then == "up":
        within.run(up(NAME), "true")
    down(NAME)
    assert leftovers.of(folder, there.number) == []


@pytest.mark.parametrize("after_seconds", [0.4, 0.6, 0.8, 1.0, 1.3])
def test_a_killed_up_does_not_break_the_next(boxes: Path, after_seconds: float) -> None:
    folder = boxes / NAME
    with subprocess.Popen(
        [sys.executable, "-m", "virtual_rig", "up", NAME], cwd=CHECKOUT, stdout=subprocess.DEVNULL
    ) as running:
        try:
            running.wait(after_seconds)
        except subprocess.TimeoutExpired:
            running.kill()
    if api.phase_of(folder) == "running":
        down(NAME)
    within.run(up(NAME), "true")
    there = record.read(folder)
    assert there
    down(NAME)
    assert leftovers.of(folder, there.number) == []


def test_it_comes_up_with_closed_standard_streams(boxes: Path) -> None:
    closed = f"exec {sys.executable} -m virtual_rig up {NAME} <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", closed], cwd=CHECKOUT, check=False)
    assert done.returncode == 0
    box = api.find(NAME)
    assert box
    within.run(box, "true")
    down(NAME)
