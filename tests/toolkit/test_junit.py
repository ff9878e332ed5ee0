"""The counts that `./rig test` prints come from pytest's own report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from toolkit.junit import Outcome, read, total

SAMPLE = """
import pytest

def test_passes(): pass
def test_fails(): assert False
def test_errors(missing): pass
@pytest.mark.skip(reason="needs a GPU")
def test_skipped(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_skips_itself(n): pytest.skip("needs internet")
"""


def test_a_real_report_is_counted(tmp_path: Path) -> None:
    sample = tmp_path / "test_sample.py"
    sample.write_text(SAMPLE)
    report = tmp_path / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", f"--junitxml={report}", sample],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    outcome = read(report)
    assert (outcome.passed, outcome.failed, outcome.skipped) == (1, 2, 3)
    assert outcome.skip_reasons == {"needs a GPU": 1, "needs internet": 2}


def test_totals_add_up_and_read_as_one_line() -> None:
    rows = [Outcome(1, 2, 3), Outcome(10, 0, 1)]
    assert str(total(rows)) == "11 passed, 2 failed, 4 skipped"
    assert str(total([])) == "0 passed, 0 failed, 0 skipped"
