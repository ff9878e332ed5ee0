"""Figures that engines logged (data/datapoints.json), and what we say for the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from rig_runtime.llama_memory import LlamaNeeds
from rig_runtime.memory import Load
from rig_runtime.models.shape import Attention, ModelShape
from rig_runtime.units import GIB, MIB
from rig_runtime.vllm_memory import VllmNeeds
from tests.runtime.made import DATA, shape
from tests.runtime.published import MODELS, config_of

Point = dict[str, Any]
POINTS: dict[str, Point] = {
    point["id"]: point for point in json.loads((DATA / "datapoints.json").read_text())["points"]
}
BY_ID = {row["id"]: row for row in MODELS}


def published(name: str, **changes: Any) -> ModelShape:
    return shape({**config_of(BY_ID[name]), **changes})


def with_attention(made: ModelShape, change: Callable[[Attention], Attention]) -> ModelShape:
    layers = tuple(
        replace(layer, attention=change(layer.attention)) if layer.attention else layer
        for layer in made.layers
    )
    return replace(made, layers=layers)


def all_full(made: ModelShape) -> ModelShape:
    """Gemma 3 where the engine keeps all tokens on all layers."""
    return with_attention(made, lambda a: replace(a, kind="full", window_tokens=None))


def without_absorption(made: ModelShape) -> ModelShape:
    """DeepSeek-V2-Lite with the keys and values of every head in the cache."""
    return with_attention(made, lambda a: Attention("full", 16, 192, 128))


def dense(config: dict[str, Any]) -> ModelShape:
    base = {"model_type": "llama", "intermediate_size": 256, "vocab_size": 32000}
    return shape({**base, "max_position_embeddings": 1 << 20, **config})


QWEN_7B = published("Qwen/Qwen2.5-7B-Instruct")
GEMMA = published("google/gemma-3-27b-it")
DEEPSEEK = published("deepseek-ai/DeepSeek-V3")
QWEN36 = published("Qwen/Qwen3.6-27B")
GLM = published("zai-org/GLM-4-32B-0414")

LLAMA_CPP = {
    "ik-llama-02": published("Qwen/Qwen3-30B-A3B"),
    "ik-llama-03": published("Qwen/Qwen3-30B-A3B"),
    "ik-llama-06": published("Qwen/Qwen3-235B-A22B"),
    "ik-llama-07": published("Qwen/Qwen3-235B-A22B"),
    "ik-llama-11": all_full(GEMMA),
    "ik-llama-12": GLM,
    "ik-llama-13": published("zai-org/GLM-4-32B-0414", num_key_value_heads=8),
    "ik-llama-16": DEEPSEEK,
    "ik-llama-17": DEEPSEEK,
    "ik-llama-19": DEEPSEEK,
    "ik-llama-21": without_absorption(published("deepseek-ai/DeepSeek-V2-Lite")),
    "llama-02": published("Qwen/Qwen3-30B-A3B"),
    "llama-04": QWEN36,
    "llama-06": QWEN36,
    "llama-08": dense(
        {"num_hidden_layers": 32, "num_attention_heads": 32, "head_dim": 96, "hidden_size": 3072}
    ),
    "llama-09": dense(
        {
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "hidden_size": 2048,
        }
    ),
    "llama-11": dense({"num_hidden_layers": 40, "num_attention_heads": 64, "hidden_size": 8192}),
    "llama-16": QWEN_7B,
    "llama-19": QWEN_7B,
    "llama-21": QWEN_7B,
    "llama-24": GEMMA,
    "llama-25": GEMMA,
    "llama-26": all_full(GEMMA),
    "llama-28": published("Qwen/Qwen3-14B"),
    "llama-29": published("Qwen/Qwen3-14B"),
}
NOT_TOLD = {
    "ik-llama-01": "its keys and values have different types: see the test of that",
    "ik-llama-22": "the heads of its layers are not told",
    "llama-13": "its context is not told",
    "llama-14": "its context is not told",
}


def test_no_point_that_states_a_cache_is_left_out() -> None:
    stated = {
        name
        for name, point in POINTS.items()
        if "kv_mib" in point["measured"] and point["engine"] in ("llama.cpp", "ik_llama.cpp")
    }
    assert stated == LLAMA_CPP.keys() | NOT_TOLD.keys()


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_llama_cpp_caches(name: str) -> None:
    point = POINTS[name]
    measured = point["measured"]["kv_mib"]
    total = sum(measured) if isinstance(measured, list) else measured
    dtype = point["settings"].get("ctk", "f16")
    made, context = LLAMA_CPP[name], point["ctx"]
    needs = LlamaNeeds(made, 1, Load(context, 1, dtype))
    (rank,) = needs.ranks((made.num_hidden_layers,), context)
    assert rank.kv_cache_bytes / MIB == pytest.approx(total, rel=0.01)


def test_keys_and_values_of_different_types() -> None:
    """ik-llama-01: keys in iq4_nl, which is as wide as q4_0, and values in f16."""
    made = published("meta-llama/Llama-3.1-8B")
    keys = with_attention(made, lambda a: replace(a, value_dim=0))
    values = with_attention(made, lambda a: replace(a, key_dim=0))
    loads = ((keys, Load(1024, 1, "q4_0")), (values, Load(1024, 1, "f16")))
    ranks = [LlamaNeeds(part, 1, load).ranks((32,), 1024)[0] for part, load in loads]
    total = sum(rank.kv_cache_bytes for rank in ranks)
    assert total / MIB == pytest.approx(POINTS["ik-llama-01"]["measured"]["kv_mib"], rel=0.01)


@pytest.mark.parametrize("name", ["ik-llama-02", "llama-04"])
def test_the_cache_of_each_card_of_a_layer_split(name: str) -> None:
    """The layers that the log shows on each card: 25 of 48, and 9 of 16 full layers."""
    point = POINTS[name]
    made = LLAMA_CPP[name]
    partition = {"ik-llama-02": (25, 23), "llama-04": (36, 28)}[name]
    needs = LlamaNeeds(made, 2, Load(point["ctx"], 1, point["settings"]["ctk"]))
    ranks = needs.ranks(partition, point["ctx"])
    assert [rank.kv_cache_bytes / MIB for rank in ranks] == pytest.approx(
        point["measured"]["kv_mib"], rel=0.01
    )


@pytest.mark.parametrize(
    ("name", "row", "sequences"),
    [("llama-06", "Qwen/Qwen3.6-27B", 1), ("llama-07", "Qwen/Qwen3.5-35B-A3B", 4)],
)
def test_recurrent_states(name: str, row: str, sequences: int) -> None:
    made = published(row)
    (rank,) = LlamaNeeds(made, 1, Load(256, sequences)).ranks((made.num_hidden_layers,), 256)
    expected = POINTS[name]["measured"]["recurrent_mib"]
    assert rank.state_bytes / MIB == pytest.approx(expected, rel=0.001)


VLLM_WEIGHTS = {
    "vllm-01": ("meta-llama/Llama-3.1-8B", 0.03),
    "vllm-10": ("Qwen/Qwen2.5-1.5B", 0.03),
    "vllm-11": ("meta-llama/Llama-3.1-8B", 0.03),
    "vllm-12": ("meta-llama/Llama-3.1-8B", 0.03),
}


@pytest.mark.parametrize("name", VLLM_WEIGHTS)
def test_vllm_weights(name: str) -> None:
    row, tolerance = VLLM_WEIGHTS[name]
    measured = POINTS[name]["measured"]["weights_gib"]
    assert published(row).weights_bytes / GIB == pytest.approx(measured, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "row"), [("vllm-10", "Qwen/Qwen2.5-1.5B"), ("vllm-11", "meta-llama/Llama-3.1-8B")]
)
def test_vllm_blocks_of_a_cache(name: str, row: str) -> None:
    """How many blocks of 16 tokens the logged cache has; its size is rounded to 0.01 GiB."""
    made, measured = published(row), POINTS[name]["measured"]
    needs = VllmNeeds.of(made, 1, 1, Load(16, 1))
    two, one = (needs.ranks((made.num_hidden_layers,), n)[0].kv_cache_bytes for n in (32, 16))
    assert measured["kv_gib"] * GIB / (two - one) == pytest.approx(measured["kv_blocks"], rel=0.003)


def test_vllm_needs_for_a_long_context() -> None:
    """vllm-17: 33 000 tokens need 6.05 GiB, and 3.37 GiB hold 18 368 tokens."""
    made, point = published("Qwen/Qwen2.5-14B-Instruct"), POINTS["vllm-17"]["measured"]
    needs = VllmNeeds.of(made, 1, 1, Load(33000, 1))
    (rank,) = needs.ranks((48,), 33000)
    assert rank.kv_cache_bytes / GIB == pytest.approx(point["kv_needed_gib"], rel=0.01)
    room = rank.total_bytes - rank.kv_cache_bytes + int(point["kv_available_gib"] * GIB)
    longest = needs.most_tokens((48,), [room])
    assert longest == pytest.approx(point["max_model_len_estimate"], rel=0.01)


@pytest.mark.parametrize("name", ["vllm-01", "vllm-04", "vllm-11", "vllm-12"])
def test_vllms_budget_is_the_sum_of_its_parts(name: str) -> None:
    """kv = utilization x total - weights - non-torch - activation: what gpu_memory_utilization of
    a plan relies on."""
    point = POINTS[name]
    totals = {"vllm-01": 79.22, "vllm-04": 23.58, "vllm-11": 22.07, "vllm-12": 79.14}
    parts = point["measured"]
    budget = point["settings"]["gpu_memory_utilization"] * totals[name]
    rest = parts["weights_gib"] + parts["non_torch_gib"] + parts["activation_peak_gib"]
    assert budget - rest == pytest.approx(parts["kv_gib"], abs=0.1)


def test_vllms_activation_peak_is_planned_high() -> None:
    """vllm-11: 0.22 GiB for 2048 tokens; CUDA graphs come on top."""
    made = published("meta-llama/Llama-3.1-8B")
    (rank,) = VllmNeeds.of(made, 1, 1, Load(16, 1)).ranks((32,), 16)
    assert rank.compute_bytes / GIB >= POINTS["vllm-11"]["measured"]["activation_peak_gib"]
