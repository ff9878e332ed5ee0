"""What a pytest run reported: counts, and why tests were skipped."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """Counts of one run; errors count as failures. `skip_reasons` maps a reason to its count."""

    passed: int
    failed: int
    skipped: int
    skip_reasons: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read(report: Path) -> Outcome:
    """The outcome in a JUnit report, as pytest writes it. Raises OSError or ET.ParseError."""
    suites = ET.parse(report).getroot().iter("testsuite")
    reasons: Counter[str] = Counter()
    tests = failed = skipped = 0
    for suite in suites:
        tests += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
        reasons.update(element.get("message", "") for element in suite.iter("skipped"))
    return Outcome(tests - failed - skipped, failed, skipped, reasons)


def total(outcomes: Iterable[Outcome]) -> Outcome:
    """The sum of several runs."""
    rows = list(outcomes)
    return Outcome(
        sum(row.passed for row in rows),
        sum(row.failed for row in rows),
        sum(row.skipped for row in rows),
        sum((row.skip_reasons for row in rows), Counter()),
    )
