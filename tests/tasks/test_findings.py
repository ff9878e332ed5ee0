"""Is the rig as it should be, and what does the new plan change."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.findings import (
    card_problems,
    card_reports,
    display_problems,
    driver_problems,
    plan_changes,
    plan_summary,
)
from tasks.problems import listing
from tasks.service_facts import Cards
from tests.tasks.cases import device, display, driver

TARGET = "multi-user.target"


def _cards(*buses: int, **changes: object) -> Cards:
    gpus: list[dict[str, Any]] = [
        {
            "uuid": f"GPU-{bus}",
            "bus_id": f"0000:{bus:02x}:00.0",
            "name": "NVIDIA GeForce RTX 3060",
            "memory_used_bytes": 0,
            "display_active": False,
            **changes,
        }
        for bus in buses
    ]
    return {"gpus": gpus, "driver_version": "580.95.05"}


@pytest.mark.parametrize(
    ("loaded", "on_disk", "is_problem"),
    [
        ("580.95.05", "580.95.05", False),
        ("535.261.03", "580.95.05", True),
        (None, "580.95.05", True),
        (None, None, True),
    ],
)
def test_loaded_must_be_on_disk(loaded: str | None, on_disk: str | None, is_problem: bool) -> None:
    state = driver(loaded_version=loaded, boot_module_version=on_disk)
    assert bool(driver_problems(state)) is is_problem


def test_every_card_on_the_bus_must_answer() -> None:
    devices = [device("RTX 3060", 1), device("RTX 3080", 2)]
    assert card_problems(devices, _cards(1, 2)) == []
    (problem,) = card_problems(devices, _cards(1))
    assert "0000:02:00.0" in str(problem)
    assert "0000:01:00.0" not in str(problem)
    (blind,) = card_problems(devices, {"gpus": None, "driver_version": None})
    assert "rig-runtime gpus" in str(blind)


def test_a_served_card_must_not_draw() -> None:
    assert display_problems(display(), _cards(1), TARGET) == []
    assert "0000:01:00.0" in listing(
        display_problems(display(), _cards(1, display_active=True), TARGET)
    )
    graphical = display(default_target="graphical.target")
    assert "graphical.target" in listing(display_problems(graphical, _cards(1), TARGET))


def test_unknown_memory_is_unknown_not_zero() -> None:
    (report,) = card_reports(_cards(1, memory_used_bytes=None, display_active=None))
    assert "unknown in use" in str(report)


@pytest.mark.parametrize(
    ("before", "text"),
    [({}, "4 MiB in use"), ({"0000:01:00.0": 616 << 20}, "4 MiB in use, 612 MiB freed")],
)
def test_what_was_freed(before: dict[str, int], text: str) -> None:
    (report,) = card_reports(_cards(1, memory_used_bytes=4 << 20), before)
    assert str(report).endswith(f": {text}")


def _plan(context_tokens: int = 2048, **verdicts: str) -> dict[str, Any]:
    return {
        "engine": "vllm",
        "split": "tensor",
        "tensor_parallel_size": 2,
        "context_tokens": context_tokens,
        "expected_decode_tokens_per_second": 41.0,
        "cards": [
            {"uuid": uuid, "name": f"card {uuid}", "verdict": verdict, "held_bytes": 1}
            for uuid, verdict in verdicts.items()
        ],
    }


def _status(**plans: dict[str, Any] | None) -> dict[str, Any]:
    return {"models": [{"name": name, "plan": plan} for name, plan in plans.items()]}


CHANGES = [
    (_status(), _status(tiny=_plan(a="used", b="used")), ["tiny: vllm on card a + card b"]),
    (_status(tiny=_plan(a="used")), _status(), ["tiny: no longer planned"]),
    (_status(tiny=_plan(a="used")), _status(tiny=_plan(a="used")), []),
    (_status(tiny=None), _status(tiny=None), []),
    (
        _status(tiny=_plan(a="used", b="spare")),
        _status(tiny=_plan(4096, b="used", c="spare")),
        [
            "tiny: card a (a): used -> gone",
            "tiny: card b (b): spare -> used",
            "tiny: card c (c): not there -> spare",
            "tiny: context_tokens: 2048 -> 4096",
        ],
    ),
]


@pytest.mark.parametrize(("before", "after", "lines"), CHANGES)
def test_what_the_new_plan_changes(
    before: dict[str, Any], after: dict[str, Any], lines: list[str]
) -> None:
    found = plan_changes(plan_summary(before), plan_summary(after))
    assert len(found) == len(lines)
    assert all(text.startswith(line) for text, line in zip(found, lines, strict=True))


def test_what_changes_by_the_hour_is_no_change() -> None:
    later = _plan(a="used")
    later["expected_decode_tokens_per_second"] = 12.0
    later["cards"][0]["held_bytes"] = 9 << 30
    assert plan_summary(_status(tiny=later)) == plan_summary(_status(tiny=_plan(a="used")))


def test_no_service_has_no_plans() -> None:
    assert plan_summary(None) == {}
