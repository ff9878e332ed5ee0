"""Several models on one rig: each planned on what the ones before it leave. Pure.

Models are taken by priority, equals in the order of the configuration; none is given bytes that
another has, so no card is over-committed. A model for which nothing is left has an infeasible plan
that says so, and whose place it could take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rig_runtime.config import Config, ModelConfig
from rig_runtime.engine_rules import RULES
from rig_runtime.eviction import Resident, Room, make_room
from rig_runtime.gpus import Gpu, Rig, usable
from rig_runtime.models.shape import ModelShape
from rig_runtime.plan import Plan, PlanRequest, plan_model
from rig_runtime.units import tokens

MOST_ADVISED = 2
"""Of the models for which nothing is left, so many are told whose place they could take: each
answer costs several plans."""


def request_of(model: ModelConfig, config: Config) -> PlanRequest:
    """What a configured model asks of the planner."""
    installed = [name for name in RULES if getattr(config.engines, name, None) is not None]
    return PlanRequest(
        engine=model.engine,
        engines=tuple(installed) or tuple(RULES),
        context_tokens=model.context_tokens,
        sequences=model.sequences,
        tensor_parallel_size=model.tensor_parallel_size,
        kv_cache_dtype=model.kv_cache_dtype,
        exclude=frozenset(config.rig.exclude),
        power_supplies=config.rig.power_supplies,
        margin_bytes=config.rig.margin_bytes,
    )


@dataclass(frozen=True)
class Member:
    """A model of a fleet. Where not all fit, those of a higher priority get the cards."""

    name: str
    shape: ModelShape
    request: PlanRequest
    priority: int = 0


def by_priority(priorities: Sequence[int]) -> list[int]:
    """Positions in the order in which models are planned: of equals, the first comes first."""
    return sorted(range(len(priorities)), key=lambda position: -priorities[position])


def plan_fleet(members: Sequence[Member], rig: Rig) -> tuple[Plan, ...]:
    """A plan for each member, in the order given, all resident together.

    One for which nothing is left is told which others it could take the place of.
    """
    plans: dict[int, Plan] = {}
    residents: list[Resident] = []
    left_out = 0
    for position in by_priority([member.priority for member in members]):
        member = members[position]
        shape = replace(member.shape, name=member.name)
        busy = member.request.busy.union(*(each.plan.gpu_set for each in residents))
        plan = plan_model(shape, rig, member.request.model_copy(update={"busy": busy}))
        if plan.feasible:
            residents.append(Resident(member.name, plan, member.priority, last_used=-position))
            rig = occupied(rig, plan)
        elif left_out < MOST_ADVISED:
            left_out += 1
            room = make_room(shape, member.request, rig, residents, priority=member.priority)
            plan = _advised(plan, room)
        plans[position] = plan
    return tuple(plans[position] for position in range(len(members)))


def _advised(plan: Plan, room: Room) -> Plan:
    """An infeasible plan with the way that is left: in the place of others."""
    if not room.evict or plan.problem is None:
        return plan
    fix = (
        f"serve it in the place of {', '.join(room.evict)}: then it fits, with "
        f"{tokens(room.plan.context_tokens or 0)} tokens of context"
    )
    problem = plan.problem.model_copy(update={"how": f"{fix}; {plan.problem.how}"})
    return plan.model_copy(update={"fixes": (fix, *plan.fixes), "problem": problem})


def occupied(rig: Rig, plan: Plan) -> Rig:
    """The rig as it is once this plan runs: its bytes are held on its cards."""
    needed = {card.uuid: card.needed_bytes for card in plan.cards if card.needed_bytes}
    return rig.model_copy(update={"gpus": tuple(_occupied(gpu, needed) for gpu in rig.gpus)})


def _occupied(gpu: Gpu, needed: dict[str, int]) -> Gpu:
    if gpu.uuid not in needed:
        return gpu
    held = usable(gpu).held_bytes + needed[gpu.uuid]
    return gpu.model_copy(update={"memory_used_bytes": held})
