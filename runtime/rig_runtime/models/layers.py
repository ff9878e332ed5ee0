"""Which kind each decoder layer is: what mixes tokens, and what its feed-forward part is.

By what the configuration says. Where it is silent, the reference implementation's class has a
default, and a config.json holds only what differs from it: CLASS_DEFAULTS has those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from rig_runtime.errors import BadInput
from rig_runtime.models.fields import Fields

Mixer = Literal["full", "sliding", "mla", "gated_delta_net", "mamba1", "mamba2", "none"]
FeedForward = Literal["dense", "experts", "none"]

MAX_LAYERS = 2048
EXPERT_COUNT_KEYS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True, slots=True)
class LayerKind:
    """One layer's blocks; `stores` is False where it reads the KV cache of an earlier layer.

    `kv_heads` and `ffn_width` are what a per-layer list says against the configuration's own.
    """

    mixer: Mixer
    feed_forward: FeedForward
    stores: bool = True
    kv_heads: int | None = None
    ffn_width: int | None = None


CLASS_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {"tie_word_embeddings": True},
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
    "gemma4_text": {"sliding_window_pattern": 6, "tie_word_embeddings": True},
    "cohere": {"tie_word_embeddings": True},
    "cohere2": {"sliding_window_pattern": 4, "tie_word_embeddings": True},
    "qwen2": {"use_sliding_window": False, "qkv_bias": True},
    "qwen2_moe": {"use_sliding_window": False, "qkv_bias": True},
    "qwen2_vl_text": {"use_sliding_window": False, "qkv_bias": True},
    "qwen2_5_vl_text": {"use_sliding_window": False, "qkv_bias": True},
    "qwen3": {"use_sliding_window": False},
    "qwen3_moe": {"use_sliding_window": False},
    "qwen3_next": {"full_attention_interval": 4, "attn_output_gate": True},
    "qwen3_5_text": {"full_attention_interval": 4, "attn_output_gate": True},
    "qwen3_5_moe_text": {"full_attention_interval": 4, "attn_output_gate": True},
    "gpt_oss": {"attention_bias": True},
    "nemotron_h": {"ungated": True},
    "nemotron": {"ungated": True},
    "starcoder2": {"ungated": True, "use_bias": True},
    "phi": {"ungated": True},
    "falcon_h1": {"hybrid_in_one_layer": True},
}
"""What transformers 5's classes fill in for a key that config.json leaves out, and what they do
that no key mentions: `qkv_bias`, `ungated` (feed-forward without a gate)."""

MIXER_WORDS: dict[str, Mixer] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "full",
    "linear_attention": "gated_delta_net",
    "mamba": "mamba2",
}
"""Words of `layer_types`. A chunked layer is counted as a full one: vLLM may hold it so."""

PATTERN_LETTERS: dict[str, tuple[Mixer, FeedForward]] = {
    "M": ("mamba2", "none"),
    "*": ("full", "none"),
    "-": ("none", "dense"),
    "E": ("none", "experts"),
}
"""Letters of `hybrid_override_pattern`: each layer is one block."""

UNKNOWN_STRUCTURE = (
    "rwkv",
    "conv_L_cache",
    "index_topk",
    "cross_attention_layers",
    "hidden_size_per_layer_input",
    "enable_moe_block",
    "hybrid_in_one_layer",
    "attn_type_list",
    "linear_attn_config",
    "kda_",
    "altup_",
    "shared_mlp_intermediate_size",
    "mamba_ngroups",
)
"""Starts of keys that change what a layer is or holds, and that this reader does not know."""


def text_fields(config: Fields) -> Fields:
    """The decoder's part of a configuration, with its class's defaults filled in."""
    section = config.section("text_config") or config.section("llm_config")
    values = dict(config.values if section is None else section.values)
    if section is not None:
        for key in ("torch_dtype", "dtype", "quantization_config", "tie_word_embeddings"):
            if values.get(key) is None:
                values[key] = config.values.get(key)
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
                works="no memory figure would be right, so none is given",
            )


def layer_kinds(text: Fields) -> tuple[LayerKind, ...]:
    """The blocks of each layer."""
    if text.has("hybrid_override_pattern"):
        return _from_pattern(text)
    count = text.integer("num_hidden_layers", "n_layer", high=MAX_LAYERS)
    if text.has("block_configs"):
        return _from_block_configs(text, count)
    mixers = _mixers(text, count)
    routed = _routed(text, count)
    shared = text.integer("num_kv_shared_layers", default=0, low=0, high=count)
    return tuple(
        LayerKind(mixer, "experts" if experts else "dense", stores=i < count - shared)
        for i, (mixer, experts) in enumerate(zip(mixers, routed, strict=True))
    )


def _mixers(text: Fields, count: int) -> tuple[Mixer, ...]:
    words = text.words("layer_types")
    if words is not None:
        return _from_words(text, words, count)
    if text.has("kv_lora_rank"):
        return tuple(_mixer("mla") for _ in range(count))
    if text.has("attn_layer_period"):
        period = text.integer("attn_layer_period", high=MAX_LAYERS)
        offset = text.integer("attn_layer_offset", default=0, low=0, high=MAX_LAYERS)
        return tuple(_mixer("full" if i % period == offset else "mamba1") for i in range(count))
    if text.has("linear_num_value_heads"):
        every = text.integer("full_attention_interval", high=MAX_LAYERS)
        return tuple(_mixer("gated_delta_net" if (i + 1) % every else "full") for i in range(count))
    return _windows(text, count)


def _windows(text: Fields, count: int) -> tuple[Mixer, ...]:
    """Full and sliding layers where no list of layer types says which is which."""
    if not text.has("sliding_window") or not text.flag("use_sliding_window", True):
        return tuple(_mixer("full") for _ in range(count))
    pattern = text.integer("sliding_window_pattern", default=0, low=0, high=MAX_LAYERS)
    if pattern:
        return tuple(_mixer("sliding" if (i + 1) % pattern else "full") for i in range(count))
    full_first = text.integer("max_window_layers", default=0, low=0, high=MAX_LAYERS)
    return tuple(_mixer("full" if i < full_first else "sliding") for i in range(count))


def _mixer(mixer: Mixer) -> Mixer:
    return mixer


def _from_words(text: Fields, words: tuple[str, ...], count: int) -> tuple[Mixer, ...]:
    if len(words) != count:
        raise BadInput(
            f"{text.source}: layer_types lists {len(words)} layers, num_hidden_layers is {count}"
        )
    if unknown := sorted(set(words) - set(MIXER_WORDS)):
        raise BadInput(
            f"{text.source}: layers of the type {unknown[0]!r} are not understood",
            works=f"understood are {', '.join(sorted(MIXER_WORDS))}",
        )
    if text.has("kv_lora_rank") and set(words) != {"full_attention"}:
        raise BadInput(f"{text.source}: MLA beside other layer types is not understood")
    if text.has("kv_lora_rank"):
        return tuple(_mixer("mla") for _ in words)
    return tuple(MIXER_WORDS[word] for word in words)


def _from_pattern(text: Fields) -> tuple[LayerKind, ...]:
    pattern = text.text("hybrid_override_pattern")
    if unknown := sorted(set(pattern) - set(PATTERN_LETTERS)):
        raise BadInput(
            f"{text.source}: hybrid_override_pattern has the letter {unknown[0]!r}",
            works=f"understood are {' '.join(PATTERN_LETTERS)}",
        )
    if len(pattern) > MAX_LAYERS:
        raise BadInput(f"{text.source}: hybrid_override_pattern lists {len(pattern)} layers")
    return tuple(LayerKind(*PATTERN_LETTERS[letter]) for letter in pattern)


def _from_block_configs(text: Fields, count: int) -> tuple[LayerKind, ...]:
    """A searched architecture (Nemotron NAS): each layer has its own heads and width."""
    blocks = text.sections("block_configs")
    if len(blocks) != count:
        raise BadInput(f"{text.source}: block_configs lists {len(blocks)} of {count} layers")
    heads = text.integer("num_attention_heads", high=1 << 14)
    hidden = text.integer("hidden_size", high=1 << 20)
    kinds = []
    for block in blocks:
        kind = LayerKind("none", "none")
        attention, ffn = block.section("attention"), block.section("ffn")
        if attention and attention.has("n_heads_in_group"):
            group = attention.integer("n_heads_in_group", high=heads)
            kind = replace(kind, mixer="full", kv_heads=heads // group)
        if ffn and ffn.has("ffn_mult"):
            width = int(2 * ffn.number("ffn_mult", high=64) * hidden / 3)
            kind = replace(kind, feed_forward="dense", ffn_width=-(-width // 256) * 256)
        kinds.append(kind)
    return tuple(kinds)


def _routed(text: Fields, count: int) -> tuple[bool, ...]:
    """For each layer, whether its feed-forward part is made of experts."""
    if not text.integer(*EXPERT_COUNT_KEYS, default=0, low=0, high=1 << 16):
        return (False,) * count
    if text.has("expert_layer_period"):
        period = text.integer("expert_layer_period", high=MAX_LAYERS)
        offset = text.integer("expert_layer_offset", default=0, low=0, high=MAX_LAYERS)
        return tuple(i % period == offset for i in range(count))
    first = text.integer("first_k_dense_replace", default=0, low=0, high=MAX_LAYERS)
    dense = set(text.integers("mlp_only_layers") or ())
    if text.has("moe_layer_freq") and isinstance(text.values["moe_layer_freq"], int):
        step = text.integer("moe_layer_freq", high=MAX_LAYERS)
        return tuple(i >= first and i % step == 0 for i in range(count))
    step = text.integer(
        "decoder_sparse_step", "interleave_moe_layer_step", default=1, high=MAX_LAYERS
    )
    return tuple(i >= first and i not in dense and (i + 1) % step == 0 for i in range(count))
