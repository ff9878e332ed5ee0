"""Why a card is not needed: the first thing in which a plan with it is worse, never a tie."""

from __future__ import annotations

from typing import Any

import pytest

from rig_runtime.plan import plan_model
from rig_runtime.plan_types import PlanRequest
from tests.runtime.made import LLAMA_TINY, QWEN_7B, gpu, rig_of, shape

SPARE: dict[str, tuple[dict[str, Any], str, str]] = {
    "an equal card": ({}, "as_good", "as good as the plan"),
    "more watts": ({"power_limit_watts": 300}, "more_watts", "with 300 W instead of 170 W"),
    "more room": ({"gib": 24}, "leaves_less_room", "leaves more room for other models"),
    "slower": ({"memory_bandwidth_bytes_per_second": 10**11}, "slower", "the plan "),
}


@pytest.mark.parametrize(("changes", "code", "said"), SPARE.values(), ids=SPARE.keys())
def test_the_real_reason_of_a_spare_gpu(changes: dict[str, Any], code: str, said: str) -> None:
    changes = {"gib": 12, **changes}
    rig = rig_of(gpu(0, 12), gpu(1, **changes))
    verdict = plan_model(shape(LLAMA_TINY), rig, PlanRequest(sequences=1)).cards[1]
    assert (verdict.verdict, verdict.reason_code) == ("spare", code)
    assert said in verdict.reason


def test_a_slower_link_is_named() -> None:
    rig = rig_of(gpu(0, 24), gpu(1, 24), gpu(2, 24, pcie_width_current=1))
    request = PlanRequest(tensor_parallel_size=2)
    verdict = plan_model(shape(QWEN_7B), rig, request).cards[2]
    assert verdict.reason_code == "slower"
    assert "over a link of x1" in verdict.reason


def test_no_reason_compares_a_number_with_itself() -> None:
    rig = rig_of(*(gpu(number, 8 + number % 2) for number in range(4)))
    for size in (None, 2):
        plan = plan_model(shape(LLAMA_TINY), rig, PlanRequest(tensor_parallel_size=size))
        for verdict in plan.cards:
            assert "instead of" not in verdict.reason or verdict.reason_code == "more_watts"
            assert "the plan " not in verdict.reason or verdict.reason_code != "slower"


def test_cards_that_are_all_left_out_are_named() -> None:
    rig = rig_of(gpu(0), gpu(1, unavailable="it fell off the bus"))
    plan = plan_model(shape(LLAMA_TINY), rig, PlanRequest(exclude=frozenset({"GPU-0"})))
    assert plan.problem is not None
    assert plan.problem.found == (
        "RTX 3060 at 0000:00:00.0: it was asked to be left out; "
        "RTX 3060 at 0000:01:00.0: it fell off the bus"
    )


def test_an_illegal_size_is_told_without_the_other_engine() -> None:
    rig = rig_of(*(gpu(number) for number in range(3)))
    problem = plan_model(shape(QWEN_7B), rig, PlanRequest(tensor_parallel_size=3)).problem
    assert problem is not None
    assert "28 attention heads cannot be divided by 3" in problem.found
    assert "Ollama" not in problem.found
    assert "asked for" not in problem.found
