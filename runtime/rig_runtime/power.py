"""Watts on each power supply: whether a set of cards may work at once, and the limits for it. Pure.

A card's power limit is an average over milliseconds; its peaks are higher, and a supply that is
near its rating trips on them. So only a part of the rating is given out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rig_runtime.gpus import Gpu
from rig_runtime.parallel import Reason
from rig_runtime.plan_types import PowerSupply
from rig_runtime.units import counted

USABLE_SHARE = 0.8
"""Of a supply's rating: rigs that tripped at the sum of their limits ran at 15-30 % below it (open
reports of Xid 79 and of over-current protection, cured by caps or a larger supply)."""

IDLE_WATTS = 25.0
"""Of a card that does not work."""

UNKNOWN_WATTS = 350.0
"""Of a card that reports no limit: a large consumer card's, rather than too little."""


def safe_limits(
    working: Sequence[Gpu],
    cards: Sequence[Gpu],
    supplies: Sequence[PowerSupply],
    busy: Collection[str] = (),
) -> dict[str, float] | Reason:
    """The power limits in watts that cards must be set to so that these may work at once.

    Empty where their present limits are safe already. `cards` are all of the rig, `busy` those
    that other models work with: these count with their limits, the rest as idle. A Reason
    where even the lowest limits are too much for a supply.
    """
    limits: dict[str, float] = {}
    working_uuids = {gpu.uuid for gpu in working}
    for supply in supplies:
        fed = [gpu for gpu in working if gpu.uuid in supply.cards]
        others = [
            gpu for gpu in cards if gpu.uuid in supply.cards and gpu.uuid not in working_uuids
        ]
        beside = sum(_limit(gpu) if gpu.uuid in busy else IDLE_WATTS for gpu in others)
        given = supply.watts * USABLE_SHARE - supply.other_watts - beside
        found = _share(fed, given) if fed else {}
        if found is None:
            return Reason(
                "power_supply_overloaded",
                f"the supply {supply.name!r} ({supply.watts:.0f} W, {USABLE_SHARE:.0%} of it "
                f"usable) has {max(0.0, given):.0f} W for {counted(len(fed), 'card')}: at least "
                f"{sum(_least(gpu) for gpu in fed):.0f} W are needed",
            )
        limits |= found
    return limits


def _share(fed: Sequence[Gpu], given_watts: float) -> dict[str, float] | None:
    """Lower limits for the cards of one supply, in proportion; None where the lowest are too much.

    A card that reaches its lowest limit keeps it, and the others share what is left.
    """
    if sum(_limit(gpu) for gpu in fed) <= given_watts:
        return {}
    if sum(_least(gpu) for gpu in fed) > given_watts:
        return None
    at_least: dict[str, float] = {}
    while True:
        free = [gpu for gpu in fed if gpu.uuid not in at_least]
        left = given_watts - sum(at_least.values())
        scale = left / sum(_limit(gpu) for gpu in free) if free else 0
        low = [gpu for gpu in free if _limit(gpu) * scale < _least(gpu)]
        if not low:
            lowered = {gpu.uuid: float(int(_limit(gpu) * scale)) for gpu in free}
            return {**at_least, **lowered}
        at_least |= {gpu.uuid: _least(gpu) for gpu in low}


def _limit(gpu: Gpu) -> float:
    return UNKNOWN_WATTS if gpu.power_limit_watts is None else gpu.power_limit_watts


def _least(gpu: Gpu) -> float:
    """The lowest limit that the card accepts; one that does not say cannot be lowered."""
    return min(_limit(gpu), _limit(gpu) if gpu.power_min_watts is None else gpu.power_min_watts)
