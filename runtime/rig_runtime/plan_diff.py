"""What one plan changes against another: after a card swap, a stopped desktop, another wish."""

from __future__ import annotations

from collections.abc import Iterator

from rig_runtime.plan_types import CardVerdict, Plan
from rig_runtime.units import size, tokens

NOTEWORTHY_SPEED = 0.05
"""Smaller changes of a predicted speed say nothing."""

LEAST_HELD_BYTES = 32 << 20


def changes(before: Plan, after: Plan) -> tuple[str, ...]:
    """The differences that matter, as sentences; none where the plan is the same."""
    return (
        *_outcome(before, after),
        *_numbers(before, after),
        *_cards(before, after),
    )


def _outcome(before: Plan, after: Plan) -> Iterator[str]:
    if before.feasible != after.feasible:
        yield "it fits now" if after.feasible else "it does not fit any more"
    if before.gpu_set != after.gpu_set:
        was, now = (_cards_of(plan) for plan in (before, after))
        yield f"cards: {was} before, {now} now"
    if before.engine != after.engine:
        yield f"engine: {before.engine} before, {after.engine} now"
    if before.split != after.split or before.layer_partition != after.layer_partition:
        yield f"split: {_split(before)} before, {_split(after)} now"


def _numbers(before: Plan, after: Plan) -> Iterator[str]:
    for label, was, now in (
        ("context", before.context_tokens, after.context_tokens),
        ("longest context", before.max_context_tokens, after.max_context_tokens),
    ):
        if was != now:
            yield f"{label}: {_tokens(was)} before, {_tokens(now)} now"
    slow, fast = before.expected_decode_tokens_per_second, after.expected_decode_tokens_per_second
    if slow and fast and abs(fast - slow) > NOTEWORTHY_SPEED * slow:
        yield f"decode: about {slow:.0f} tokens/s before, {fast:.0f} now"
    if before.expected_power_watts != after.expected_power_watts:
        yield f"power: {_watts(before)} before, {_watts(after)} now"


def _cards(before: Plan, after: Plan) -> Iterator[str]:
    known = {card.uuid: card for card in before.cards}
    for card in after.cards:
        was = known.pop(card.uuid, None)
        if was is None:
            yield f"{card.name} at {card.bus_id} is new: {card.verdict}, {card.reason}"
        else:
            yield from _card(was, card)
    for card in known.values():
        yield f"{card.name} at {card.bus_id} is gone"


def _card(was: CardVerdict, now: CardVerdict) -> Iterator[str]:
    held = (was.held_bytes or 0) - (now.held_bytes or 0)
    if abs(held) >= LEAST_HELD_BYTES:
        freed = "freed" if held > 0 else "taken by others"
        yield f"{now.name} at {now.bus_id}: {size(abs(held))} {freed}"
    if was.verdict != now.verdict:
        yield f"{now.name} at {now.bus_id}: {was.verdict} before, {now.verdict} now, {now.reason}"


def _cards_of(plan: Plan) -> str:
    names = {card.uuid: card.name for card in plan.cards}
    return " + ".join(names.get(uuid, uuid) for uuid in plan.gpu_set) or "none"


def _split(plan: Plan) -> str:
    layers = "" if plan.layer_partition is None else " " + "/".join(map(str, plan.layer_partition))
    return f"{plan.split}{layers}"


def _tokens(count: int | None) -> str:
    return "none" if count is None else f"{tokens(count)} tokens"


def _watts(plan: Plan) -> str:
    return "unknown" if plan.expected_power_watts is None else f"{plan.expected_power_watts:.0f} W"
