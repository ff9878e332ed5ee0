"""`./rig test`: lint, types and all tests that this machine can run; what it skipped, and why."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from toolkit import engine
from toolkit.junit import Outcome, read, total

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

CHECKS: Mapping[str, tuple[str, ...]] = {
    "lint": (str(BIN / "ruff"), "check", "."),
    "format": (str(BIN / "ruff"), "format", "--check", "."),
    "types": (str(BIN / "mypy"),),
}

# Each in a process of its own: pyinfra's test harness patches the standard library with gevent.
SUITES = (
    "tests/tasks",
    "tests/runtime",
    "tests/toolkit",
    "tests/docs",
    "tests/virtual_rig",
    "tests/e2e",
)

QUICK = "not box and not engine and not long"
NO_TESTS_COLLECTED = 5


class Step(NamedTuple):
    """One check or suite that has run."""

    name: str
    failed: bool
    seconds: float
    outcome: Outcome | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--quick` for the everyday run, paths to run a part."""
    parser.add_argument(
        "--quick", action="store_true", help="only what needs no container and no engine"
    )
    parser.add_argument("paths", nargs="*", help="only these test files or folders, without checks")


def run(arguments: argparse.Namespace) -> int:
    """Run everything, also after a failure; then say what failed and what was skipped."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    if not arguments.quick:
        environment |= engine.prepare()
    with tempfile.TemporaryDirectory(prefix="rig-test-") as reports:
        steps = [] if arguments.paths else [_check(name, words) for name, words in CHECKS.items()]
        suites = _by_suite(arguments.paths) if arguments.paths else {s: [s] for s in SUITES}
        for suite, paths in suites.items():
            report = Path(reports) / f"{suite.replace('/', '-')}.xml"
            steps.append(_pytest(suite, paths, arguments.quick, report, environment))
    return _summary(steps)


def _by_suite(paths: Sequence[str]) -> dict[str, list[str]]:
    """Paths grouped by the process that they need."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        suite = next((s for s in SUITES if Path(path).is_relative_to(s)), "tests")
        groups.setdefault(suite, []).append(path)
    return groups


def _check(name: str, words: Sequence[str]) -> Step:
    print(f"\n== {name}: {Path(words[0]).name} {' '.join(words[1:])}", flush=True)
    started = time.monotonic()
    code = subprocess.run(words, cwd=ROOT, check=False).returncode
    return Step(name, code != 0, time.monotonic() - started)


def _pytest(
    suite: str, paths: Sequence[str], quick: bool, report: Path, environment: Mapping[str, str]
) -> Step:
    words = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *paths]
    words += ["-m", QUICK] if quick else []
    print(f"\n== {suite}: pytest {' '.join(words[4:])}", flush=True)
    started = time.monotonic()
    code = subprocess.run(words, cwd=ROOT, env=dict(environment), check=False).returncode
    failed = code not in (0, NO_TESTS_COLLECTED)
    outcome = read(report) if report.exists() else None
    return Step(suite, failed, time.monotonic() - started, outcome)


def _summary(steps: Sequence[Step]) -> int:
    print("\n== summary")
    for step in steps:
        state = "FAILED" if step.failed else "ok"
        counts = f"  {step.outcome}" if step.outcome else ""
        print(f"{step.name:20} {state:7} {step.seconds:7.1f} s{counts}")
    outcomes = [step.outcome for step in steps if step.outcome]
    for outcome in outcomes:
        for reason, count in sorted(outcome.skip_reasons.items()):
            print(f"skipped {count} x: {reason}")
    print(total(outcomes))
    return int(any(step.failed for step in steps))
