"""Plans: what is asked for comes first, no card is over-committed, no peer's mistake is ours."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig_runtime.candidates import GAIN_OF_A_CARD, Search
from rig_runtime.errors import BadInput
from rig_runtime.fleet import Member, occupied, plan_fleet
from rig_runtime.gpus import Gpu, Rig, usable
from rig_runtime.models.shape import ModelShape
from rig_runtime.parallel import group_reasons, tensor_parallel_reasons
from rig_runtime.plan import Plan, PlanRequest, plan_model
from rig_runtime.units import GIB, MIB
from rig_runtime.vllm_memory import VllmNeeds
from tests.runtime.made import AWQ, LLAMA_TINY, QWEN_7B, gpu, rig, rig_of, shape
from tests.runtime.published import MODELS, config_of

BY_ID = {row["id"]: row for row in MODELS}
QWEN = shape(QWEN_7B)
ONE = PlanRequest(sequences=1)


def names_of(plan: Plan, of: Rig) -> list[str]:
    names = {card.uuid: card.name.rsplit(" ", 1)[-1] for card in of.gpus}
    return [names[uuid] for uuid in plan.gpu_set]


def check_is_sound(plan: Plan, asked: Rig, request: PlanRequest) -> None:
    """What holds for every plan."""
    assert [card.uuid for card in plan.cards] == [card.uuid for card in asked.gpus]
    for card, there in zip(plan.cards, asked.gpus, strict=True):
        assert card.reason
        assert card.usable_bytes == usable(there, request.margin_bytes).usable_bytes
        assert card.needed_bytes <= card.usable_bytes
        assert (card.uuid in plan.gpu_set) == (card.verdict == "used") == (card.needed_bytes > 0)
        assert card.uuid not in request.exclude or card.verdict == "excluded"
    if not plan.feasible:
        assert plan.problem is not None
        assert plan.gpu_set == ()
        return
    assert plan.problem is None
    assert plan.context_tokens is not None
    assert plan.max_context_tokens is not None
    assert plan.context_tokens <= plan.max_context_tokens
    assert len(plan.gpu_set) == plan.tensor_parallel_size * plan.pipeline_parallel_size
    if request.context_tokens is not None:
        assert plan.context_tokens == request.context_tokens


capabilities = st.sampled_from(["6.1", "7.5", "8.6", "8.9", None])


@st.composite
def rigs(draw: st.DrawFn) -> Rig:
    cards = []
    for number in range(draw(st.integers(0, 5))):
        cards.append(
            gpu(
                number,
                gib=draw(st.integers(4, 32)),
                compute_capability=draw(capabilities),
                memory_used_bytes=draw(st.none() | st.integers(0, 6 * GIB)),
                memory_reserved_bytes=draw(st.none() | st.integers(0, GIB // 2)),
                memory_bandwidth_bytes_per_second=draw(st.none() | st.integers(10**11, 10**12)),
                pcie_width_current=draw(st.none() | st.sampled_from([1, 4, 8, 16])),
                unavailable=draw(st.sampled_from([None, None, None, "it fell off the bus"])),
            )
        )
    return rig_of(*cards, nvlinks=draw(st.sampled_from([0, 0, 4])))


@st.composite
def models(draw: st.DrawFn) -> ModelShape:
    kv_heads = draw(st.sampled_from([1, 2, 3, 4, 8]))
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": 256 * draw(st.integers(2, 16)),
        "intermediate_size": 512 * draw(st.integers(2, 28)),
        "num_hidden_layers": draw(st.integers(1, 40)),
        "num_attention_heads": kv_heads * draw(st.integers(1, 8)),
        "num_key_value_heads": kv_heads,
        "head_dim": draw(st.sampled_from([64, 128])),
        "vocab_size": draw(st.sampled_from([32000, 128256, 50257])),
        "max_position_embeddings": draw(st.sampled_from([2048, 8192, 131072])),
        "tie_word_embeddings": draw(st.booleans()),
    }
    if draw(st.booleans()):
        config["sliding_window"] = 1024
        config["sliding_window_pattern"] = 6
    if draw(st.booleans()):
        config["quantization_config"] = AWQ
    return shape(config)


requests = st.builds(
    PlanRequest,
    context_tokens=st.none() | st.sampled_from([512, 2048]),
    sequences=st.sampled_from([1, 4]),
    tensor_parallel_size=st.none() | st.sampled_from([1, 2, 4]),
    exclude=st.sampled_from([frozenset(), frozenset({"GPU-0"})]),
    margin_bytes=st.sampled_from([0, 64 * MIB]),
)


def brute_force(made: ModelShape, on: Rig, request: PlanRequest) -> dict[tuple[Any, ...], int]:
    """Every tensor-parallel set and its longest context, computed one by one from the memory
    figures alone, without the search."""
    found = {}
    cards = [c for c in on.gpus if not c.unavailable and c.uuid not in request.exclude]
    for count in range(1, len(cards) + 1):
        if tensor_parallel_reasons(made, count):
            continue
        if request.tensor_parallel_size not in (None, count):
            continue
        for chosen in combinations(cards, count):
            if group_reasons(chosen) or any(c.capability and c.capability < (7, 5) for c in chosen):
                continue
            found[tuple(sorted(c.uuid for c in chosen))] = _longest(made, chosen, request)
    return found


def _longest(made: ModelShape, chosen: tuple[Gpu, ...], request: PlanRequest) -> int:
    from rig_runtime.memory import Load

    needs = VllmNeeds.of(made, len(chosen), 1, Load(16, request.sequences))
    room = min(usable(c, request.margin_bytes).usable_bytes for c in chosen)
    layers = (made.num_hidden_layers,)
    longest = made.max_position_embeddings
    best = 0
    for context in (16, 512, 2048, 4096, 8192, 16384, 32768, longest):
        if context <= longest and needs.totals(layers, context)[0] <= room:
            best = max(best, context)
    return best


@settings(max_examples=150, deadline=None)
@given(made=models(), on=rigs(), request=requests)
def test_no_plan_is_illegal_over_a_card_or_worse_than_brute_force(
    made: ModelShape, on: Rig, request: PlanRequest
) -> None:
    plan = plan_model(made, on, request)
    check_is_sound(plan, on, request)
    by_hand = brute_force(made, on, request)
    least = request.context_tokens or min(2048, made.max_position_embeddings)
    if any(context >= least for context in by_hand.values()):
        assert plan.feasible
    if plan.feasible and plan.split in ("none", "tensor"):
        assert by_hand[tuple(sorted(plan.gpu_set))] >= least
        goal = request.context_tokens or min(16384, made.max_position_embeddings)
        if max(by_hand.values()) >= goal:
            assert plan.context_tokens == goal


@settings(max_examples=60, deadline=None)
@given(made=models(), on=rigs(), request=requests)
def test_the_plan_is_the_best_of_all_candidates(
    made: ModelShape, on: Rig, request: PlanRequest
) -> None:
    search = Search.of(made, on, request)
    fitting = [candidate for candidate in search.candidates if candidate.fits]
    if not fitting:
        assert search.best is None
        return
    assert search.best is not None
    assert search.rank_key(search.best) == min(search.rank_key(c) for c in fitting)
    assert search.longest >= max(c.max_context_tokens for c in fitting)


@settings(max_examples=60, deadline=None)
@given(made=models(), on=rigs())
def test_the_longest_context_fits_and_a_longer_one_does_not(made: ModelShape, on: Rig) -> None:
    for candidate in Search.of(made, on, ONE).candidates:
        if not candidate.fits or candidate.needs is None:
            continue
        partition, longest = candidate.split.partition, candidate.max_context_tokens
        size = candidate.split.tensor
        rooms = [min(candidate.rooms[i : i + size]) for i in range(0, len(candidate.rooms), size)]

        at = candidate.needs.totals(partition, longest)
        beyond = candidate.needs.totals(partition, longest + 16)
        assert all(total <= room for total, room in zip(at, rooms, strict=True))
        if longest < made.max_position_embeddings:
            assert any(total > room for total, room in zip(beyond, rooms, strict=True))


# What peers answer wrongly (GPUStack sums cards and is blind to context, KV heads and the desktop).


def test_a_sum_over_unequal_cards_is_no_capacity() -> None:
    """29 GiB over 4 cards of which one has 8 GB: 7.25 GiB a rank do not fit the 3070 with TP=4."""
    config = {**config_of(BY_ID["Qwen/Qwen3-14B"]), "num_hidden_layers": 42}
    made = shape({**config, "num_attention_heads": 64, "num_key_value_heads": 8})
    plan = plan_model(made, rig("reference"), PlanRequest(sequences=1, tensor_parallel_size=4))
    assert not plan.feasible
    assert plan.problem is not None
    assert "the RTX 3070 would need" in plan.problem.found


def test_kv_heads_count_too() -> None:
    """24 heads and 8 KV heads: three cards are not legal, whatever the heads say."""
    made = shape(
        {**LLAMA_TINY, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 64}
    )
    plan = plan_model(made, rig("three-3060"), PlanRequest(tensor_parallel_size=3))
    assert not plan.feasible
    assert "8 KV heads cannot be divided by 3" in str(plan.problem)


def test_a_small_model_goes_to_the_fastest_card_not_the_largest() -> None:
    """Llama-3.2-3B class, 6 GiB: GPUStack refuses the 3080 at any context, Ollama takes a 3060."""
    made = shape({**config_of(BY_ID["meta-llama/Llama-3.2-1B"]), "num_hidden_layers": 44})
    plan = plan_model(made, rig("reference"), ONE)
    assert names_of(plan, rig("reference")) == ["3080"]


def test_display_memory_counts() -> None:
    """1.2 GiB on the 3080 change what fits there; the sum of all cards would hide it."""
    alone = rig("one-3080")
    busy = alone.model_copy(
        update={
            "gpus": tuple(
                card.model_copy(update={"memory_used_bytes": 1200 * MIB}) for card in alone.gpus
            )
        }
    )
    made = shape(config_of(BY_ID["meta-llama/Llama-3.2-1B"]))
    free = plan_model(made, alone, PlanRequest(sequences=16))
    held = plan_model(made, busy, PlanRequest(sequences=16))
    assert free.max_context_tokens is not None
    assert held.max_context_tokens is not None
    per_token = 32768 * 16
    lost = (free.max_context_tokens - held.max_context_tokens) * per_token
    assert lost == pytest.approx(1200 * MIB, rel=0.02)


def test_three_equal_cards_are_a_pipeline() -> None:
    """No published model is legal at TP=3; the layers of one that needs three cards are split."""
    made = shape({**config_of(BY_ID["Qwen/Qwen2.5-14B-Instruct"]), "num_attention_heads": 40})
    plan = plan_model(made, rig("three-3060"), ONE)
    assert plan.feasible
    assert (plan.split, plan.pipeline_parallel_size) == ("pipeline", 3)
    assert plan.layer_partition is not None
    assert sum(plan.layer_partition) == 48


def test_uneven_cards_get_uneven_stages() -> None:
    on = rig_of(gpu(0, 16), gpu(1, 12), gpu(2, 8))
    plan = plan_model(shape(config_of(BY_ID["Qwen/Qwen2.5-14B-Instruct"])), on, ONE)
    assert plan.split == "pipeline"
    layers = dict(zip(plan.gpu_set, plan.layer_partition or (), strict=True))
    assert layers["GPU-0"] > layers["GPU-1"] > layers["GPU-2"]


def test_one_card_that_fits_beats_two_unless_two_are_much_faster() -> None:
    fast = {"memory_bandwidth_bytes_per_second": 936 * 10**9}
    pair = (gpu(0, 24, **fast), gpu(1, 24, **fast))
    small = shape(config_of(BY_ID["meta-llama/Llama-3.2-1B"]))
    assert len(plan_model(small, rig_of(*pair), ONE).gpu_set) == 1
    alone = plan_model(QWEN, rig_of(pair[0]), ONE).expected_decode_tokens_per_second
    both = plan_model(QWEN, rig_of(*pair, nvlinks=4), ONE)
    assert alone is not None
    assert both.expected_decode_tokens_per_second is not None
    assert len(both.gpu_set) == 2
    assert both.expected_decode_tokens_per_second > GAIN_OF_A_CARD * alone


def test_what_is_asked_for_comes_before_speed() -> None:
    on = rig_of(gpu(0, 10, memory_bandwidth_bytes_per_second=900 * 10**9), gpu(1, 24))
    made = shape({**QWEN_7B, "quantization_config": AWQ})
    short = plan_model(made, on, PlanRequest(context_tokens=8192, sequences=1))
    long = plan_model(made, on, PlanRequest(context_tokens=131072, sequences=1))
    assert short.gpu_set == ("GPU-0",)
    assert "GPU-1" in long.gpu_set


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_the_cards_does_not_matter(order: tuple[int, ...]) -> None:
    cards = [gpu(0, 8), gpu(1, 12, memory_bandwidth_bytes_per_second=5 * 10**11), gpu(2, 24)]
    plan = plan_model(QWEN, rig_of(*(cards[i] for i in order)), ONE)
    assert plan.gpu_set == plan_model(QWEN, rig_of(*cards), ONE).gpu_set


def test_a_context_beyond_the_models_is_bad_input() -> None:
    with pytest.raises(BadInput, match="131 072"):
        plan_model(QWEN, rig("reference"), PlanRequest(context_tokens=131073))


@pytest.mark.parametrize(
    "on", [Rig(), rig_of(gpu(1, unavailable="it fell off the bus"))], ids=["none", "all lost"]
)
def test_without_a_usable_card_there_is_one_message(on: Rig) -> None:
    plan = plan_model(QWEN, on, ONE)
    assert not plan.feasible
    assert plan.problem is not None
    assert plan.problem.found


def test_a_lost_card_does_not_keep_the_others_from_serving() -> None:
    on = rig_of(gpu(0, 24), gpu(1, 24, unavailable="it fell off the bus"))
    plan = plan_model(QWEN, on, ONE)
    assert plan.gpu_set == ("GPU-0",)
    assert plan.cards[1].reason_code == "unavailable"


def test_an_engine_that_cannot_serve_a_format_says_so() -> None:
    for request in (PlanRequest(engine="ollama"), PlanRequest(kv_cache_dtype="q8_0")):
        plan = plan_model(QWEN, rig("reference"), request)
        assert not plan.feasible
        assert plan.problem is not None
        assert "needs an engine that serves it" in plan.problem.needed
        assert {card.verdict for card in plan.cards} == {"excluded"}


def test_a_rig_of_many_cards_is_planned_in_bounded_time() -> None:
    """Sets of up to 8 of 16 cards would be 39 202."""
    on = rig_of(*(gpu(i, 6 + i / 2) for i in range(16)))
    search = Search.of(QWEN, on, ONE)
    assert len(search.candidates) < 16 + 8 * 2**8
    plan = plan_model(QWEN, on, ONE)
    check_is_sound(plan, on, ONE)
    assert plan.feasible


def test_old_cards_serve_bf16_models_in_float16() -> None:
    on = rig_of(gpu(0, 24, compute_capability="7.5"))
    assert plan_model(QWEN, on, ONE).dtype == "float16"
    assert plan_model(QWEN, rig_of(gpu(0, 24)), ONE).dtype == "auto"


def test_vllms_share_of_a_card_leaves_what_the_desktop_holds() -> None:
    """vLLM compares the share of CUDA's total with what is free once its context exists."""
    on = rig("reference-with-desktop")
    made = shape({**QWEN_7B, "quantization_config": AWQ})
    plan = plan_model(made, on, PlanRequest(sequences=1, context_tokens=32768))
    assert names_of(plan, on) == ["3080"]
    card, needs = on.gpus[0], plan.ranks[0]
    assert plan.gpu_memory_utilization is not None
    visible = (card.memory_total_bytes or 0) - (card.memory_reserved_bytes or 0)
    free_at_start = visible - (card.memory_used_bytes or 0) - needs.fixed_bytes
    asked = plan.gpu_memory_utilization * visible
    assert asked <= free_at_start
    kept = asked - needs.weights_bytes - needs.compute_bytes
    assert kept == pytest.approx(needs.kv_cache_bytes, abs=2 * MIB)


@settings(max_examples=40, deadline=None)
@given(fleet=st.lists(models(), max_size=4), on=rigs())
def test_a_fleet_is_never_over_committed(fleet: list[ModelShape], on: Rig) -> None:
    plans = plan_fleet([Member(f"m{i}", made, ONE) for i, made in enumerate(fleet)], on)
    for card in on.gpus:
        needed = sum(c.needed_bytes for plan in plans for c in plan.cards if c.uuid == card.uuid)
        assert needed <= usable(card).usable_bytes


def test_the_cards_go_to_the_higher_priority_and_the_other_is_told_so() -> None:
    on = rig_of(gpu(0, 24))
    low, high = (Member(name, QWEN, ONE, priority) for name, priority in (("low", 0), ("high", 1)))
    first, second = plan_fleet([low, high], on)
    assert (first.feasible, second.feasible) == (False, True)
    assert not any("in the place of" in fix for fix in first.fixes)


def test_one_of_equal_priority_is_told_whose_place_it_could_take() -> None:
    on = rig_of(gpu(0, 24))
    first, second = plan_fleet([Member("first", QWEN, ONE), Member("second", QWEN, ONE)], on)
    assert (first.feasible, second.feasible) == (True, False)
    assert "serve it in the place of first: then it fits" in second.fixes[0]
    assert second.problem is not None
    assert second.problem.how.startswith(second.fixes[0])


def test_what_a_plan_takes_is_held_afterwards() -> None:
    on = rig("reference")
    plan = plan_model(QWEN, on, ONE)
    after = occupied(on, plan)
    for before, now, card in zip(on.gpus, after.gpus, plan.cards, strict=True):
        assert usable(before).usable_bytes - usable(now).usable_bytes == card.needed_bytes
