"""The life of a model: every event from every phase, and what no sequence of events may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig_runtime import lifecycle
from rig_runtime.lifecycle import FAILURES_ALLOWED, Life, Phase

Event = Callable[[Life, float], Life]


def broke(life: Life, now: float, *, permanent: bool = False, was_used: bool = False) -> Life:
    return lifecycle.broke(life, now, reason="r", permanent=permanent, was_used=was_used)


EVENTS: dict[str, Event] = {
    "started": lifecycle.started,
    "broke": broke,
    "broke for good": partial(broke, permanent=True),
    "broke in use": partial(broke, was_used=True),
    "retry_due": lifecycle.retry_due,
    "tried_again": lifecycle.tried_again,
    "stop_asked": lifecycle.stop_asked,
    "stopped": lifecycle.stopped,
}

LEGAL = {
    (Phase.STARTING, "started"): Phase.READY,
    (Phase.STARTING, "broke"): Phase.WAITING,
    (Phase.STARTING, "broke for good"): Phase.FAILED,
    (Phase.STARTING, "broke in use"): Phase.WAITING,
    (Phase.READY, "broke"): Phase.WAITING,
    (Phase.READY, "broke for good"): Phase.FAILED,
    (Phase.READY, "broke in use"): Phase.WAITING,
    (Phase.WAITING, "retry_due"): Phase.STARTING,
    (Phase.FAILED, "tried_again"): Phase.STARTING,
    (Phase.STARTING, "stop_asked"): Phase.DRAINING,
    (Phase.READY, "stop_asked"): Phase.DRAINING,
    (Phase.WAITING, "stop_asked"): Phase.DRAINING,
    (Phase.FAILED, "stop_asked"): Phase.DRAINING,
    (Phase.DRAINING, "stop_asked"): Phase.DRAINING,
    (Phase.DRAINING, "stopped"): Phase.STOPPED,
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", EVENTS)
def test_each_event_in_each_phase(phase: Phase, event: str) -> None:
    life = Life(phase, 1.0)
    if (phase, event) in LEGAL:
        assert EVENTS[event](life, 2.0).phase is LEGAL[phase, event]
        assert EVENTS[event](life, 2.0).since == 2.0
    else:
        with pytest.raises(ValueError, match="cannot become"):
            EVENTS[event](life, 2.0)


@given(st.lists(st.sampled_from(sorted(EVENTS))))
def test_failures_end_in_a_clear_state_and_never_in_a_loop(events: list[str]) -> None:
    life = lifecycle.begin(0.0)
    unused = 0
    for now, event in enumerate(events):
        try:
            life = EVENTS[event](life, float(now))
        except ValueError:
            continue
        unused = {"broke": unused + 1, "broke in use": 1, "tried_again": 0}.get(event, unused)
        assert life.failures <= FAILURES_ALLOWED
        if event == "broke":
            assert (life.phase is Phase.FAILED) == (unused >= FAILURES_ALLOWED)
        if life.phase is Phase.WAITING:
            assert 0 < life.backoff_seconds <= lifecycle.LONGEST_BACKOFF_SECONDS


def test_backoff_grows() -> None:
    steps = [lifecycle.backoff_seconds(failures) for failures in range(1, 10)]
    assert steps == sorted(steps)
    assert steps[:4] == [1, 2, 4, 8]
    assert steps[-1] == lifecycle.LONGEST_BACKOFF_SECONDS


def test_an_engine_that_is_used_between_its_deaths_is_always_started_again() -> None:
    life = lifecycle.begin(0.0)
    for now in range(10 * FAILURES_ALLOWED):
        life = broke(lifecycle.started(life, now), now, was_used=True)
        assert life.phase is Phase.WAITING
        life = lifecycle.retry_due(life, now)


def test_the_reason_stays_visible_while_it_is_tried_again() -> None:
    life = lifecycle.retry_due(broke(lifecycle.begin(0.0), 1.0), 2.0)
    assert life == replace(life, phase=Phase.STARTING, reason="r", failures=1)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(("seconds", "is_long"), [(-0.1, False), (0.0, True), (60.0, True)])
def test_only_a_failed_model_cools_down(phase: Phase, seconds: float, is_long: bool) -> None:
    now = 1.0 + lifecycle.COOL_DOWN_SECONDS + seconds
    cooled = lifecycle.has_cooled_down(Life(phase, 1.0), now)
    assert cooled == (is_long and phase is Phase.FAILED)
