"""Facts from recorded output: of boxes, and of hosts that no box can play (recorded/NAME.json)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactBase

from tasks import facts, package_source, service_facts

RECORDED = Path(__file__).parent / "recorded"
CASES = sorted(RECORDED.glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_recorded(path: Path) -> None:
    case = json.loads(path.read_text())
    fact: FactBase[object] = getattr(facts, path.stem.partition("-")[0])()
    assert fact.process(case["output"]) == case["fact"]


COMMANDS = [
    facts.Host().command(),
    facts.DisplayDevices().command(),
    facts.Driver().command(),
    facts.Display().command(),
    facts.LeftoverFiles().command(),
    facts.Environments().command(names=["vllm", "runtime"]),
    package_source.Unreachable().command(addresses=["http://a b/'x"]),
    service_facts.Service().command(),
    service_facts.Gpus().command(),
    service_facts.Health().command(address="http://127.0.0.1:1"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_posix_shell(command: str) -> None:
    done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_facts_of_this_machine_have_their_types() -> None:
    """The commands run for real here, whatever this machine is."""
    host = _here(facts.Host())
    assert host["running_kernel"]
    assert "/" in host["disks"]
    assert isinstance(_here(facts.DisplayDevices()), list)
    assert _here(facts.Driver())["held"] is not None
    assert _here(facts.LeftoverFiles())["runfile"] is not None


def _here(fact: FactBase[Any]) -> Any:
    command = fact.command()
    done = subprocess.run(["sh", "-c", str(command)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return fact.process(lines) if lines else fact.default()


@pytest.mark.parametrize(
    ("output", "state"),
    [
        (
            ["ActiveState=active", "UnitFileState=enabled", "NeedDaemonReload=no", "RIG_DIGEST=ab"],
            (True, True, False, "ab"),
        ),
        (
            ["ActiveState=inactive", "UnitFileState=", "NeedDaemonReload=yes"],
            (False, False, True, None),
        ),
        ([], (False, False, False, None)),
    ],
)
def test_service(output: list[str], state: tuple[bool, bool, bool, str | None]) -> None:
    found = service_facts.Service().process(output)
    assert (
        found["active"],
        found["enabled"],
        found["needs_reload"],
        found["running_digest"],
    ) == state


@pytest.mark.parametrize("output", [[], ["Traceback: no"], ["[]"], ["{"]])
def test_a_program_that_fails_is_no_answer(output: list[str]) -> None:
    assert service_facts.Gpus().process(output)["gpus"] is None
    assert service_facts.Status().process(output) is None
