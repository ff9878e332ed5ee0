"""What `rig-runtime status --json` prints: models, their ranks, and the cards they are on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version

from rig_runtime.lifecycle import Phase
from rig_runtime.plan_types import Plan
from rig_runtime.process import EngineProcess
from rig_runtime.scheduler import Scheduler
from rig_runtime.served import ServedModel


def status_of(scheduler: Scheduler, *, address: str, since: float) -> dict[str, object]:
    """What `rig-runtime status --json` prints."""
    served = list(scheduler.models.values())
    return {
        "address": address,
        "pid": os.getpid(),
        "version": version("rig-runtime"),
        "since": since,
        "models": [_status_of_model(model) for model in served],
        "cards": _status_of_cards(served),
    }


def _status_of_model(model: ServedModel) -> dict[str, object]:
    process, plan = model.process, model.plan
    is_alive = process is not None and model.life.phase in (Phase.STARTING, Phase.READY)
    pids = process.pids() if process is not None and is_alive else []
    return {
        "name": model.config.name,
        "phase": str(model.life.phase),
        "since": model.life.since,
        "reason": model.life.reason,
        "failures": model.life.failures,
        "progress": process.progress if process is not None else "",
        "requests_running": model.in_flight,
        "requests_waiting": model.queued,
        "engine": plan.engine if plan else None,
        "base_url": process.spec.base_url if process is not None and pids else None,
        "pids": pids,
        "ranks": _ranks(process, plan) if process is not None and plan and pids else [],
        "plan": plan.model_dump(mode="json") if plan else None,
    }


def _ranks(process: EngineProcess, plan: Plan) -> list[dict[str, object]]:
    """Each rank with its card and, where the engine names it, its process."""
    names = {card.uuid: card.name for card in plan.cards}
    pids = process.ranks()
    cards: Sequence[str | None] = plan.gpu_set or [None] * plan.tensor_parallel_size
    return [
        {"rank": rank, "pid": pids.get(rank), "uuid": uuid, "card": names.get(uuid or "")}
        for rank, uuid in enumerate(cards)
    ]


def _status_of_cards(served: Sequence[ServedModel]) -> list[dict[str, object]]:
    """Every card of the latest plans, with the models on it."""
    cards: dict[str, dict[str, object]] = {}
    for model in served:
        for verdict in model.plan.cards if model.plan else ():
            card = cards.setdefault(
                verdict.uuid,
                {
                    "uuid": verdict.uuid,
                    "name": verdict.name,
                    "bus_id": verdict.bus_id,
                    "total_bytes": verdict.total_bytes,
                    "models": [],
                },
            )
            on_it = card["models"]
            if verdict.verdict == "used" and isinstance(on_it, list):
                on_it.append(model.config.name)
    return list(cards.values())
