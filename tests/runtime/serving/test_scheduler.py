"""Several models on one rig, and a rig without any card."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rig_runtime import lifecycle, models
from rig_runtime.config import ModelConfig
from rig_runtime.cpu_plan import plan_on_cpu
from rig_runtime.errors import NothingFits, RigError
from rig_runtime.eviction import beside
from rig_runtime.gpus import Rig, load_rig
from rig_runtime.lifecycle import Life, Phase
from rig_runtime.models import ModelShape
from rig_runtime.plan import Plan, PlanRequest, plan_model
from rig_runtime.process import EngineProcess
from rig_runtime.scheduler import Scheduler
from rig_runtime.served import Limits, Refused
from rig_runtime.tiny_model import make
from rig_runtime.units import GIB

pytestmark = pytest.mark.anyio


@pytest.fixture
def shape(tmp_path: Path) -> ModelShape:
    return models.read_shape(make(tmp_path / "model"))


@pytest.fixture
def rig(rigs: Path) -> Rig:
    return load_rig(rigs / "reference.json")


class Planning:
    """Effects that plan, and start nothing: each model that is to be started fails."""

    def __init__(self, rig: Rig, shape: ModelShape) -> None:
        self._rig = rig
        self._shape = shape
        self.phases: list[tuple[str, Phase]] = []
        self.clock = 0.0

    def now(self) -> float:
        return self.clock

    async def plan(self, model: ModelConfig, others: Sequence[Plan]) -> Plan:
        if model.name == "huge":
            raise NothingFits("no card is large enough")
        request = PlanRequest(tensor_parallel_size=model.tensor_parallel_size)
        shape = replace(self._shape, name=model.name)
        return plan_model(shape, beside(self._rig, others), request)

    async def process(self, model: ModelConfig, plan: Plan) -> EngineProcess:
        if model.name == "no-room":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/state")
        raise NothingFits("this test starts no engine")

    def changed(self, model: str, life: Life) -> None:
        self.phases.append((model, life.phase))


def scheduler(effects: Planning, *names: str) -> Scheduler:
    configured = [ModelConfig(name=name, path=Path("/m")) for name in names]
    return Scheduler(configured, effects, Limits(queue=1, queue_seconds=1, drain_seconds=0))


async def test_a_model_that_does_not_fit_fails_alone(rig: Rig, shape: ModelShape) -> None:
    made = scheduler(Planning(rig, shape), "tiny", "huge")
    await made.start()
    assert made.models["tiny"].life.phase is Phase.STARTING
    assert made.models["huge"].life.phase is Phase.FAILED
    with pytest.raises(Refused, match="no card is large enough") as caught:
        async with made.model("huge").lease():
            pass
    assert caught.value.cause == "model_failed"
    await made.stop()
    assert {model.life.phase for model in made.models.values()} == {Phase.STOPPED}


async def test_a_request_after_the_cool_down_has_a_failed_model_tried_again(
    rig: Rig, shape: ModelShape
) -> None:
    effects = Planning(rig, shape)
    made = scheduler(effects, "tiny", "huge")
    await made.start()
    tried = ("huge", Phase.STARTING)
    for seconds, cause in [
        (lifecycle.COOL_DOWN_SECONDS - 1, "model_failed"),
        (lifecycle.COOL_DOWN_SECONDS, "queue_timeout"),
    ]:
        effects.clock = seconds
        with pytest.raises(Refused, match="no card is large enough") as caught:
            async with made.model("huge").lease():
                pass
        assert caught.value.cause == cause
        assert (tried in effects.phases) == (cause == "queue_timeout")
    assert made.model("huge").life.failures
    await made.stop()


async def test_where_nothing_fits_it_is_an_error(rig: Rig, shape: ModelShape) -> None:
    made = scheduler(Planning(rig, shape), "huge")
    with pytest.raises(NothingFits):
        await made.start()
    await made.stop()


async def test_an_error_before_the_start_is_tried_again(rig: Rig, shape: ModelShape) -> None:
    effects = Planning(rig, shape)
    made = scheduler(effects, "tiny")
    await made.start()
    await made.models["tiny"].next_change()
    assert effects.phases == [("tiny", Phase.WAITING)]
    await made.stop()


async def test_a_full_disk_is_told_and_tried_again(rig: Rig, shape: ModelShape) -> None:
    made = scheduler(Planning(rig, shape), "no-room")
    await made.start()
    await made.models["no-room"].next_change()
    assert made.models["no-room"].life.phase is Phase.WAITING
    assert "No space left on device: /state" in (made.models["no-room"].life.reason or "")
    await made.stop()


async def test_an_unknown_model_names_the_known_ones(rig: Rig, shape: ModelShape) -> None:
    made = scheduler(Planning(rig, shape), "tiny", "other")
    with pytest.raises(Refused, match="tiny, other"):
        made.model("none")


def test_a_plan_beside_another_counts_its_bytes(rig: Rig, shape: ModelShape) -> None:
    plan = plan_model(shape, rig, PlanRequest(tensor_parallel_size=2))
    needed = {card.uuid: card.needed_bytes for card in plan.cards if card.verdict == "used"}
    assert len(needed) == 2
    for gpu, before in zip(beside(rig, [plan]).gpus, rig.gpus, strict=True):
        assert gpu.memory_used_bytes == needed.get(gpu.uuid, before.memory_used_bytes)


def test_an_engine_that_runs_is_not_counted_twice(rig: Rig, shape: ModelShape) -> None:
    plan = plan_model(shape, rig, PlanRequest())
    busy = rig.model_copy(
        update={
            "gpus": tuple(g.model_copy(update={"memory_used_bytes": 5 * GIB}) for g in rig.gpus)
        }
    )
    assert beside(busy, [plan]) == busy


def test_without_cards_the_memory_of_the_machine_serves(shape: ModelShape) -> None:
    plan = plan_on_cpu(shape, PlanRequest(), 8 * GIB)
    assert (plan.split, plan.gpu_set, plan.cards) == ("none", (), ())
    assert plan.context_tokens == shape.max_position_embeddings
    assert plan.kv_cache_bytes
    assert plan_on_cpu(shape, PlanRequest(tensor_parallel_size=2), 8 * GIB).split == "tensor"


@pytest.mark.parametrize(
    ("request_", "available_bytes", "said"),
    [
        (PlanRequest(), GIB // 2, "is available"),
        (PlanRequest(tensor_parallel_size=8), 8 * GIB, "8.0. GiB of this machine"),
        (PlanRequest(tensor_parallel_size=3), 8 * GIB, "3"),
    ],
)
def test_without_cards_the_limits_are_told(
    shape: ModelShape, request_: PlanRequest, available_bytes: int, said: str
) -> None:
    with pytest.raises(RigError, match=said):
        plan_on_cpu(shape, request_, available_bytes)
