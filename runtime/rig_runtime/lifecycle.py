"""The life of a served model, as values: which event leads from which phase to which. Pure.

          started                broke
starting ---------> ready ---------------+
   |  ^                                  v
   |  +------------ retry_due ------- waiting
   |                                     |
   +-- broke: too often in a row, or permanent --> failed
failed --- tried_again: by a request, once it has cooled down --> starting
any --- stop_asked --> draining --- stopped --> stopped
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

FAILURES_ALLOWED = 3
"""So many failures in a row, with no request between them, and it is not tried again."""
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 30.0
COOL_DOWN_SECONDS = 300.0
"""A model that failed is left alone for so long: a load may take minutes of disk and power."""


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    FAILED = "failed"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Life:
    """Where a model is. `since` is in seconds since the epoch; `reason` is the last failure's."""

    phase: Phase
    since: float
    failures: int = 0
    reason: str | None = None
    backoff_seconds: float = 0.0


def begin(now: float) -> Life:
    return Life(Phase.STARTING, now)


def started(life: Life, now: float) -> Life:
    """The engine is ready."""
    return _move(life, Phase.READY, now, {Phase.STARTING}, backoff_seconds=0.0)


def broke(life: Life, now: float, *, reason: str, permanent: bool, was_used: bool) -> Life:
    """The engine did not start, died or hung. `was_used`: it had requests since it started.

    One that is used may die again and again, of what it is asked: it is always started again.
    """
    failures = 1 if was_used else life.failures + 1
    allowed = {Phase.STARTING, Phase.READY}
    if permanent or failures >= FAILURES_ALLOWED:
        return _move(life, Phase.FAILED, now, allowed, failures=failures, reason=reason)
    return _move(
        life,
        Phase.WAITING,
        now,
        allowed,
        failures=failures,
        reason=reason,
        backoff_seconds=backoff_seconds(failures),
    )


def retry_due(life: Life, now: float) -> Life:
    return _move(life, Phase.STARTING, now, {Phase.WAITING})


def has_cooled_down(life: Life, now: float) -> bool:
    """Whether a request may have the failed model tried again."""
    return life.phase is Phase.FAILED and now - life.since >= COOL_DOWN_SECONDS


def tried_again(life: Life, now: float) -> Life:
    """A failed model begins anew; what failed last stays visible."""
    return _move(life, Phase.STARTING, now, {Phase.FAILED}, failures=0)


def stop_asked(life: Life, now: float) -> Life:
    return _move(life, Phase.DRAINING, now, set(Phase) - {Phase.STOPPED})


def stopped(life: Life, now: float) -> Life:
    return _move(life, Phase.STOPPED, now, {Phase.DRAINING})


def backoff_seconds(failures: int) -> float:
    """1, 2, 4, ... seconds, at most LONGEST_BACKOFF_SECONDS."""
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** (failures - 1), LONGEST_BACKOFF_SECONDS)


def _move(life: Life, to: Phase, now: float, allowed: set[Phase], **changes: object) -> Life:
    if life.phase not in allowed:
        raise ValueError(f"a model that is {life.phase} cannot become {to}")
    return replace(life, phase=to, since=now, **changes)  # type: ignore[arg-type]
