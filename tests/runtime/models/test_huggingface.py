"""Configurations of all families: layers, caches and weights; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig_runtime.errors import BadInput
from rig_runtime.models import read_shape
from rig_runtime.models.fields import Fields
from rig_runtime.models.huggingface import shape_from_config
from rig_runtime.units import GIB
from rig_runtime.vllm_cache import elements_on_rank
from tests.runtime.made import LLAMA_TINY, QWEN_7B, model_directory, shape
from tests.runtime.published import MODELS, Row, awq, config_of


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row["id"])
def test_weights_of_published_models(row: Row) -> None:
    """Two bytes a parameter; some families have norms that no key of the configuration tells."""
    assert shape(config_of(row)).weights_bytes / 2 == pytest.approx(row["params_computed"], 5e-4)


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row["id"])
def test_quantised_weights_of_published_models(row: Row) -> None:
    estimate = row["derived"]["weights_awq_g128_est_gib"]
    assert shape(config_of(row, awq(128))).weights_bytes / GIB == pytest.approx(estimate, 0.03)


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row["id"])
def test_caches_of_published_models(row: Row) -> None:
    made = shape(config_of(row))
    derived = row["derived"]
    attention = [layer.attention for layer in made.layers if layer.attention]
    full = sum(elements_on_rank(each, 1) for each in attention if each.kind != "sliding")
    sliding = sum(elements_on_rank(each, 1) for each in attention if each.kind == "sliding")
    states = [layer.recurrent for layer in made.layers if layer.recurrent]
    state = sum(each.conv_elements + each.state_elements for each in states)
    assert full == derived["kv_elems_per_token_full"]
    assert 2 * sliding == derived.get("kv_bytes_per_cell_sliding_f16", 0)
    assert 4 * state == derived.get("recurrent_state_bytes_per_seq_f32", 0)


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no hidden size": (without(LLAMA_TINY, "hidden_size"), "hidden_size"),
    "text for a number": ({**LLAMA_TINY, "vocab_size": "many"}, 'vocab_size is "many"'),
    "negative": ({**LLAMA_TINY, "num_hidden_layers": -4}, "num_hidden_layers is -4"),
    "absurd": ({**LLAMA_TINY, "num_hidden_layers": 10**12}, "from 1 to 2048"),
    "true for a number": ({**LLAMA_TINY, "hidden_size": True}, "hidden_size is true"),
    "not a number": ({**LLAMA_TINY, "hidden_size": float("nan")}, "NaN"),
    "heads that do not divide": ({**LLAMA_TINY, "num_attention_heads": 5}, "multiple"),
    "KV heads that do not divide": ({**LLAMA_TINY, "num_key_value_heads": 3}, "multiple"),
    "unknown layer type": (
        {**LLAMA_TINY, "layer_types": ["full_attention", "wormhole"]},
        "'wormhole' are not understood",
    ),
    "too few layer types": ({**LLAMA_TINY, "layer_types": ["full_attention"]}, "lists 1 layers"),
    "unknown letter": ({**LLAMA_TINY, "hybrid_override_pattern": "MX"}, "letter 'X'"),
    "unknown structure": ({**LLAMA_TINY, "rwkv_hidden_size": 4}, "'rwkv_hidden_size'"),
    "encoder-decoder": ({**LLAMA_TINY, "is_encoder_decoder": True}, "encoder-decoder"),
    "unknown dtype": ({**LLAMA_TINY, "torch_dtype": "int3"}, "'int3'"),
    "unknown quantisation": (
        {**LLAMA_TINY, "quantization_config": {"quant_method": "magic"}},
        "'magic'",
    ),
    "quantisation that is no object": ({**LLAMA_TINY, "quantization_config": 4}, "an object"),
    "blocks that are no squares": (
        {
            **LLAMA_TINY,
            "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 64]},
        },
        "weight_block_size",
    ),
    "more experts a token than there are": (
        {**LLAMA_TINY, "num_experts": 4, "num_experts_per_tok": 8},
        "num_experts_per_tok is 8",
    ),
}


@pytest.mark.parametrize(("config", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        shape(config)


def test_a_vision_towers_weights_count(tmp_path: Path) -> None:
    text = {**without(QWEN_7B, "torch_dtype"), "model_type": "qwen2_5_vl_text"}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420}
    config = {"torch_dtype": "bfloat16", "text_config": text, "vision_config": vision}
    path = model_directory(tmp_path, config)
    extra = read_shape(path).weights_bytes - shape(QWEN_7B).weights_bytes
    assert extra == 32 * (4 * 1280**2 + 2 * 1280 * 3420) * 2


def test_a_searched_architecture_has_its_own_heads_in_each_layer() -> None:
    blocks = [
        {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.5}},
        {"attention": {"no_op": True, "n_heads_in_group": None}, "ffn": {"no_op": True}},
    ]
    made = shape({**LLAMA_TINY, "block_configs": blocks})
    assert [layer.attention.kv_heads if layer.attention else 0 for layer in made.layers] == [2, 0]
    assert made.widest_ffn == 256


def test_layers_that_reuse_a_cache_store_nothing() -> None:
    made = shape({**LLAMA_TINY, "num_kv_shared_layers": 1})
    assert [layer.attention.stores for layer in made.layers if layer.attention] == [True, False]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', "[" * 100_000, "\x00"])
def test_a_config_that_is_no_json_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json"):
        read_shape(tmp_path)


def test_a_bare_config_is_a_model(tmp_path: Path) -> None:
    directory = model_directory(tmp_path, LLAMA_TINY, "tiny")
    assert read_shape(directory / "config.json").name == "tiny"


def test_a_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"config\.json"):
        read_shape(tmp_path)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
KEYS = [
    *QWEN_7B,
    "layer_types",
    "head_dim",
    "sliding_window",
    "num_experts",
    "kv_lora_rank",
    "quantization_config",
    "text_config",
    "vision_config",
    "block_configs",
    "hybrid_override_pattern",
    "linear_num_value_heads",
    "attn_layer_period",
    "moe_layer_freq",
]


@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=4))
def test_no_config_ends_in_a_traceback(changes: dict[str, Any]) -> None:
    config = json.loads(json.dumps({**LLAMA_TINY, **changes}))
    try:
        made = shape_from_config(Fields(config, "config.json"), "fuzzed")
    except BadInput:
        return
    assert made.weights_bytes > 0
