"""Several models on one rig: each planned on what the ones before it leave. Pure.

Models are taken in the order of the configuration; none is given bytes that another has, so no
card is over-committed. A model for which nothing is left has an infeasible plan that says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rig_runtime.config import Config, ModelConfig
from rig_runtime.engine_rules import RULES
from rig_runtime.gpus import Gpu, Rig, usable
from rig_runtime.models.shape import ModelShape
from rig_runtime.plan import Plan, PlanRequest, plan_model


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


def plan_fleet(models: Iterable[tuple[str, ModelShape, PlanRequest]], rig: Rig) -> tuple[Plan, ...]:
    """A plan for each (name, shape, request), all resident together."""
    plans: list[Plan] = []
    for name, shape, request in models:
        busy = request.busy.union(*(plan.gpu_set for plan in plans))
        request = request.model_copy(update={"busy": busy})
        plan = plan_model(replace(shape, name=name), rig, request)
        plans.append(plan)
        rig = occupied(rig, plan)
    return tuple(plans)


def occupied(rig: Rig, plan: Plan) -> Rig:
    """The rig as it is once this plan runs: its bytes are held on its cards."""
    needed = {card.uuid: card.needed_bytes for card in plan.cards if card.needed_bytes}
    return rig.model_copy(update={"gpus": tuple(_occupied(gpu, needed) for gpu in rig.gpus)})


def _occupied(gpu: Gpu, needed: dict[str, int]) -> Gpu:
    if gpu.uuid not in needed:
        return gpu
    held = usable(gpu).held_bytes + needed[gpu.uuid]
    return gpu.model_copy(update={"memory_used_bytes": held})
