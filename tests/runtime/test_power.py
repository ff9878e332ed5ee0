"""Power supplies: no plan overloads one, limits make it safe, or the plan is refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rig_runtime.fleet import Member, plan_fleet
from rig_runtime.gpus import Gpu
from rig_runtime.parallel import Reason
from rig_runtime.plan import PlanRequest, plan_model
from rig_runtime.plan_types import PowerSupply
from rig_runtime.power import IDLE_WATTS, USABLE_SHARE, safe_limits
from tests.runtime.made import LLAMA_TINY, QWEN_7B, gpu, rig, rig_of, shape


def supply(watts: float, *cards: Gpu, other: float = 0) -> PowerSupply:
    uuids = tuple(card.uuid for card in cards)
    return PowerSupply(name="main", watts=watts, cards=uuids, other_watts=other)


def card(number: int, limit: float = 200, least: float | None = 100) -> Gpu:
    return gpu(number, power_limit_watts=limit, power_min_watts=least)


def test_limits_that_are_safe_are_left_alone() -> None:
    cards = [card(0), card(1)]
    assert safe_limits(cards, cards, [supply(600, *cards)]) == {}


def test_limits_are_lowered_in_proportion() -> None:
    cards = [card(0, 300), card(1, 100, 50)]
    assert safe_limits(cards, cards, [supply(400, *cards)]) == {"GPU-0": 240, "GPU-1": 80}


def test_a_card_at_its_lowest_limit_leaves_the_rest_to_the_others() -> None:
    cards = [card(0, 300), card(1, 100, 95)]
    assert safe_limits(cards, cards, [supply(400, *cards)]) == {"GPU-0": 225, "GPU-1": 95}


def test_too_much_even_at_the_lowest_limits() -> None:
    cards = [card(0), card(1)]
    refused = safe_limits(cards, cards, [supply(200, *cards)])
    assert isinstance(refused, Reason)
    assert "160 W for 2 cards: at least 200 W are needed" in refused.sentence


def test_what_others_draw_counts() -> None:
    cards = [card(0), card(1)]
    mine, all_of_it = cards[:1], [supply(400, *cards)]
    assert safe_limits(mine, cards, all_of_it) == {}
    assert safe_limits(mine, cards, all_of_it, busy={"GPU-1"}) == {"GPU-0": 120}
    assert safe_limits(mine, cards, [supply(400, *cards, other=120)]) == {"GPU-0": 175}


numbers = st.integers(50, 450)


@given(
    st.lists(st.tuples(numbers, st.none() | numbers), min_size=1, max_size=5),
    st.integers(100, 2000),
)
def test_limits_never_exceed_a_supply(values: list[tuple[int, int | None]], watts: int) -> None:
    cards = [card(i, limit, least) for i, (limit, least) in enumerate(values)]
    found = safe_limits(cards, cards, [supply(watts, *cards)])
    if isinstance(found, Reason):
        return
    drawn = sum(found.get(c.uuid, c.power_limit_watts or 0) for c in cards)
    assert drawn <= watts * USABLE_SHARE + 1e-6
    for c in cards:
        assert found.get(c.uuid, 1e9) >= min(c.power_limit_watts or 0, c.power_min_watts or 0) - 1


def test_a_plan_comes_with_the_limits_that_make_it_safe() -> None:
    on = rig("reference")
    pair = on.gpus[2:]
    request = PlanRequest(sequences=1, power_supplies=(supply(400, *pair),))
    plan = plan_model(shape(QWEN_7B), on, request)
    assert set(plan.gpu_set) == {each.uuid for each in pair}
    assert plan.power_limits_watts == {each.uuid: 160 for each in pair}
    assert plan.expected_power_watts == 320


def test_a_plan_that_would_overload_a_supply_is_refused() -> None:
    on = rig_of(card(0), card(1))
    request = PlanRequest(tensor_parallel_size=2, power_supplies=(supply(150, *on.gpus),))
    plan = plan_model(shape(LLAMA_TINY), on, request)
    assert not plan.feasible
    assert {each.reason_code for each in plan.cards} == {"power_supply_overloaded"}
    assert plan.problem is not None
    assert "'main' (150 W" in plan.problem.found


def test_a_fleets_models_may_work_at_once() -> None:
    on = rig_of(card(0), card(1))
    supplies = (supply(420, *on.gpus),)
    request = PlanRequest(sequences=1, tensor_parallel_size=1, power_supplies=supplies)
    tiny = shape({**LLAMA_TINY, "num_hidden_layers": 1})
    big = shape({**QWEN_7B, "num_hidden_layers": 17})
    first, second = plan_fleet([Member("a", big, request), Member("b", big, request)], on)
    assert first.gpu_set != second.gpu_set
    assert first.power_limits_watts == {}
    assert second.power_limits_watts == {second.gpu_set[0]: 136}
    assert plan_model(tiny, on, request).power_limits_watts == {}
    assert IDLE_WATTS + 200 <= 420 * USABLE_SHARE
