"""Who leaves the cards for a model that is wanted: no more than needed, never the wrong one."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from rig_runtime.eviction import Resident, cards_without, make_room
from rig_runtime.fleet import occupied
from rig_runtime.gpus import Rig, usable
from rig_runtime.plan import PlanRequest, plan_model
from rig_runtime.units import GIB
from tests.runtime.made import QWEN_7B, gpu, rig_of, shape

WISH = PlanRequest(sequences=1, context_tokens=2048, tensor_parallel_size=1)
SIZES = {layers: shape({**QWEN_7B, "num_hidden_layers": layers}) for layers in (2, 8, 14, 28)}
"""From about 3 to about 16 GiB on one card."""


def resident(name: str, layers: int, on: Rig, **facts: object) -> tuple[Resident, Rig]:
    """A model that got what was free, and the rig with it."""
    plan = plan_model(SIZES[layers], on, WISH)
    assert plan.feasible
    return Resident(name, plan, **facts), occupied(on, plan)  # type: ignore[arg-type]


def test_free_room_is_taken_first() -> None:
    one, on = resident("one", 8, rig_of(gpu(0, 12), gpu(1, 12)))
    room = make_room(SIZES[8], WISH, on, [one])
    assert room.plan.feasible
    assert (room.evict, room.wait_for) == ((), ())
    assert set(room.plan.gpu_set).isdisjoint(one.plan.gpu_set)


def test_the_longest_idle_of_equals_leaves() -> None:
    on = rig_of(gpu(0, 12), gpu(1, 12))
    late, on = resident("late", 14, on, last_used=20.0)
    early, on = resident("early", 14, on, last_used=10.0)
    room = make_room(SIZES[14], WISH, on, [late, early])
    assert room.evict == ("early",)
    assert room.plan.gpu_set == early.plan.gpu_set


def test_one_that_answers_leaves_last_and_is_waited_for() -> None:
    on = rig_of(gpu(0, 12), gpu(1, 12))
    busy, on = resident("busy", 14, on, is_answering=True, last_used=1.0)
    idle, on = resident("idle", 14, on, last_used=2.0)
    assert make_room(SIZES[14], WISH, on, [busy, idle]).evict == ("idle",)
    only = make_room(SIZES[14], WISH, on, [busy, Resident("idle", idle.plan, pinned=True)])
    assert (only.evict, only.wait_for) == (("busy",), ("busy",))


def test_a_lower_priority_leaves_before_an_idle_one() -> None:
    on = rig_of(gpu(0, 12), gpu(1, 12))
    low, on = resident("low", 14, on, priority=-1, last_used=99.0)
    old, on = resident("old", 14, on, priority=0, last_used=1.0)
    assert make_room(SIZES[14], WISH, on, [old, low]).evict == ("low",)


def test_pinned_and_higher_ones_stay_and_the_plan_says_what_lacks() -> None:
    on = rig_of(gpu(0, 12), gpu(1, 12))
    pinned, on = resident("pinned", 14, on, pinned=True)
    higher, on = resident("higher", 14, on, priority=5)
    room = make_room(SIZES[14], WISH, on, [pinned, higher], priority=4)
    assert not room.plan.feasible
    assert room.evict == ()
    assert room.plan.problem is not None


def test_nobody_leaves_for_a_model_that_never_fits() -> None:
    one, on = resident("one", 8, rig_of(gpu(0, 12)))
    room = make_room(SIZES[28], WISH, on, [one])
    assert not room.plan.feasible
    assert room.evict == ()


def test_what_a_loading_one_will_hold_counts() -> None:
    """It holds 1 GiB so far; beside it the desktop holds 1 GiB more, and that stays counted."""
    bare = rig_of(gpu(0, 24))
    plan = plan_model(SIZES[14], bare, WISH)
    now = rig_of(gpu(0, 24, memory_used_bytes=2 * GIB))
    loading = Resident("loading", plan, held_bytes={plan.gpu_set[0]: GIB})
    (card,) = cards_without(now, [loading], []).gpus
    assert card.memory_used_bytes == GIB + plan.cards[0].needed_bytes
    (card,) = cards_without(now, [], [loading]).gpus
    assert card.memory_used_bytes == GIB


@st.composite
def occupied_rigs(draw: st.DrawFn) -> tuple[Rig, list[Resident]]:
    on = rig_of(
        *(gpu(i, draw(st.sampled_from([6, 10, 16]))) for i in range(draw(st.integers(1, 3))))
    )
    residents = []
    for number in range(draw(st.integers(0, 4))):
        plan = plan_model(SIZES[draw(st.sampled_from([2, 8, 14]))], on, WISH)
        if plan.feasible:
            on = occupied(on, plan)
            residents.append(
                Resident(
                    f"m{number}",
                    plan,
                    priority=draw(st.integers(-1, 1)),
                    pinned=draw(st.booleans()),
                    is_answering=draw(st.booleans()),
                    last_used=draw(st.integers(0, 3)),
                )
            )
    return on, residents


@settings(max_examples=60, deadline=None)
@given(occupied_rigs(), st.sampled_from(sorted(SIZES)), st.integers(-1, 1))
def test_against_every_choice(given_: tuple[Rig, list[Resident]], size: int, priority: int) -> None:
    on, residents = given_
    room = make_room(SIZES[size], WISH, on, residents, priority=priority)
    by_name = {each.name: each for each in residents}
    leaving = [by_name[name] for name in room.evict]
    assert not any(each.pinned or each.priority > priority for each in leaving)
    assert room.wait_for == tuple(each.name for each in leaving if each.is_answering)

    def works(some: list[Resident]) -> bool:
        staying = [each for each in residents if each not in some]
        return plan_model(SIZES[size], cards_without(on, staying, some), WISH).feasible

    may = [each for each in residents if not each.pinned and each.priority <= priority]
    choices = [list(c) for count in range(len(may) + 1) for c in combinations(may, count)]
    assert room.plan.feasible == any(works(choice) for choice in choices)
    if not room.plan.feasible:
        assert leaving == []
        return
    assert works(leaving)
    fewer = combinations(leaving, len(leaving) - 1) if leaving else ()
    assert not any(works(list(some)) for some in fewer)
    staying = [each for each in residents if each not in leaving]
    for card in cards_without(on, staying, leaving).gpus:
        needed = sum(c.needed_bytes for c in room.plan.cards if c.uuid == card.uuid)
        assert needed <= usable(card).usable_bytes
