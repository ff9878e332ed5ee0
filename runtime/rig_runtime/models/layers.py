"""Which kind each decoder layer is: full or sliding attention, dense or expert feed-forward.

By what the configuration says. Where it is silent, the reference implementation's class has a
default, and a config.json holds only what differs from it: CLASS_DEFAULTS has those.
"""

from __future__ import annotations

from typing import Any, Literal

from rig_runtime.errors import BadInput
from rig_runtime.models.fields import Fields

LayerKind = Literal["full", "sliding"]

MAX_LAYERS = 2048

CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma2": {"sliding_window_pattern": 2, "tie_word_embeddings": True},
    "gemma3_text": {
        "sliding_window_pattern": 6,
        "tie_word_embeddings": True,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
    },
    "gemma": {"tie_word_embeddings": True},
    "cohere2": {"sliding_window_pattern": 4, "tie_word_embeddings": True},
    "cohere": {"tie_word_embeddings": True},
    "qwen2": {"use_sliding_window": False},
    "qwen2_moe": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "qwen3_moe": {"use_sliding_window": False},
}
"""What transformers 5's configuration classes fill in for a key that config.json leaves out."""

KIND_WORDS: dict[str, LayerKind] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
}

UNKNOWN_STRUCTURE = (
    "mamba",
    "ssm",
    "rwkv",
    "linear_num",
    "linear_attn",
    "kv_lora_rank",
    "num_kv_shared_layers",
    "num_global_key_value_heads",
    "block_configs",
    "hybrid_override_pattern",
    "attn_layer_period",
    "conv_L_cache",
    "attention_chunk_size",
    "index_topk",
    "cross_attention_layers",
)
"""Starts of keys that change what a layer is or holds, and that this reader does not know."""


def text_fields(config: Fields) -> Fields:
    """The decoder's part of a configuration, with its class's defaults filled in."""
    section = config.section("text_config") or config.section("llm_config")
    values = dict(config.values if section is None else section.values)
    if section is not None:
        for key in ("torch_dtype", "dtype", "quantization_config", "tie_word_embeddings"):
            values.setdefault(key, config.values.get(key))
    defaults = CLASS_DEFAULTS.get(str(values.get("model_type")), {})
    filled = {key: value for key, value in values.items() if value is not None}
    return Fields({**defaults, **filled}, config.source if section is None else section.source)


def refuse_unknown_structure(text: Fields) -> None:
    """Raise BadInput for a model whose layers this reader does not understand."""
    if text.flag("is_encoder_decoder", False):
        raise BadInput(f"{text.source} is an encoder-decoder", works="decoder models are served")
    for key, value in text.values.items():
        if value and key.startswith(UNKNOWN_STRUCTURE):
            raise BadInput(
                f"{text.source}: the layers that {key!r} describes are not understood",
                found=f"model_type {text.text('model_type', default='unknown')}",
                works="plan it by hand: no memory figure would be right",
            )


def layer_kinds(text: Fields) -> tuple[LayerKind, ...]:
    """Full or sliding attention for each layer."""
    count = text.integer("num_hidden_layers", "n_layer", high=MAX_LAYERS)
    words = text.words("layer_types")
    if words is not None:
        return _kinds_from_words(text, words, count)
    if not text.has("sliding_window") or not text.flag("use_sliding_window", True):
        return tuple(_kind(False) for _ in range(count))
    pattern = text.integer("sliding_window_pattern", default=0, low=0, high=MAX_LAYERS)
    if pattern:
        return tuple(_kind((i + 1) % pattern != 0) for i in range(count))
    full_first = text.integer("max_window_layers", default=0, low=0, high=MAX_LAYERS)
    return tuple(_kind(i >= full_first) for i in range(count))


def _kind(slides: bool) -> LayerKind:
    return "sliding" if slides else "full"


def _kinds_from_words(text: Fields, words: tuple[str, ...], count: int) -> tuple[LayerKind, ...]:
    if len(words) != count:
        raise BadInput(
            f"{text.source}: layer_types lists {len(words)} layers, num_hidden_layers is {count}"
        )
    if unknown := sorted(set(words) - set(KIND_WORDS)):
        raise BadInput(
            f"{text.source}: layers of the type {unknown[0]!r} are not understood",
            works=f"understood are {', '.join(sorted(KIND_WORDS))}",
        )
    return tuple(KIND_WORDS[word] for word in words)


def expert_layers(text: Fields, count: int) -> tuple[bool, ...]:
    """For each layer, whether its feed-forward part is made of experts."""
    if not text.integer(*EXPERT_COUNT_KEYS, default=0, low=0, high=1 << 16):
        return (False,) * count
    dense_first = text.integer("first_k_dense_replace", default=0, low=0, high=MAX_LAYERS)
    step = text.integer("decoder_sparse_step", "moe_layer_freq", default=1, high=MAX_LAYERS)
    dense = set(text.integers("mlp_only_layers") or ())
    from_zero = text.has("moe_layer_freq")
    return tuple(
        i >= dense_first and i not in dense and (i if from_zero else i + 1) % step == 0
        for i in range(count)
    )


EXPERT_COUNT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")
