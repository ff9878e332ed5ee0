"""config.json of a Hugging Face model -> ModelShape, with or without its weights beside it."""

from __future__ import annotations

from pathlib import Path

from rig_runtime.errors import BadInput
from rig_runtime.models.attention import grouped_attention, grouped_projections, read_heads
from rig_runtime.models.feedforward import (
    dense_matrices,
    dense_width,
    divisible_widths,
    expert_matrices,
    read_experts,
)
from rig_runtime.models.fields import Fields, read_json_object
from rig_runtime.models.layers import (
    expert_layers,
    layer_kinds,
    refuse_unknown_structure,
    text_fields,
)
from rig_runtime.models.quantisation import read_quantisation
from rig_runtime.models.shape import Layer, Matrix, ModelShape, Weights
from rig_runtime.models.weights import DTYPE_BYTES, weights_of

MAX_HIDDEN = 1 << 20
MAX_VOCABULARY = 1 << 26
NORMS_IN_A_LAYER = 4
"""Vectors of the hidden size in one layer, at most; counted high, they are tiny."""


def read_huggingface(path: Path) -> ModelShape:
    """A directory with a config.json, or a bare config.json. Raises BadInput."""
    file = path / "config.json" if path.is_dir() else path
    name = path.resolve().name if path.is_dir() else path.resolve().parent.name
    return shape_from_config(read_json_object(file), name)


def shape_from_config(config: Fields, name: str) -> ModelShape:
    """The shape that a configuration describes; weights are computed from it. Raises BadInput."""
    text = text_fields(config)
    refuse_unknown_structure(text)
    dtype = _dtype(text)
    hidden = text.integer("hidden_size", "n_embd", "d_model", high=MAX_HIDDEN)
    vocabulary = text.integer("vocab_size", high=MAX_VOCABULARY)
    heads = read_heads(text, hidden)
    kinds = layer_kinds(text)
    with_experts = expert_layers(text, len(kinds))
    experts = read_experts(text)
    quantisation = read_quantisation(text)

    mixer = grouped_projections(text, heads, hidden)
    blocks: dict[bool, tuple[Matrix, ...]] = {}
    if False in with_experts:
        blocks[False] = mixer + dense_matrices(hidden, dense_width(text))
    if True in with_experts and experts is not None:
        blocks[True] = mixer + expert_matrices(hidden, experts)
    norms = NORMS_IN_A_LAYER * hidden * DTYPE_BYTES[dtype]
    weights = {key: weights_of(block, quantisation, dtype, norms) for key, block in blocks.items()}
    attention = {kind: grouped_attention(text, heads, kind) for kind in set(kinds)}
    table_bytes = vocabulary * hidden * DTYPE_BYTES[dtype]
    return ModelShape(
        name=name,
        dtype=dtype,
        hidden_size=hidden,
        vocab_size=vocabulary,
        num_attention_heads=heads.attention,
        max_position_embeddings=text.integer("max_position_embeddings", "n_positions"),
        layers=tuple(
            Layer(weights[routed], attention[kind])
            for kind, routed in zip(kinds, with_experts, strict=True)
        ),
        matrices=tuple(dict.fromkeys(matrix for block in blocks.values() for matrix in block)),
        divisible=divisible_widths(
            text,
            experts,
            set(with_experts),
            padded_experts=quantisation is not None and quantisation.pads_groups,
        ),
        embedding_bytes=table_bytes,
        head_bytes=0 if text.flag("tie_word_embeddings", False) else table_bytes,
        outer=Weights(whole_bytes=hidden * DTYPE_BYTES[dtype] + _vision_bytes(config, dtype)),
        widest_ffn=max(
            dense_width(text) if False in with_experts else 0,
            experts.width * experts.per_token + experts.shared_width if experts else 0,
        ),
        quantisation=quantisation,
        num_experts=experts.count if experts else 0,
        experts_per_token=experts.per_token if experts else 0,
    )


def _dtype(text: Fields) -> str:
    dtype = text.text("dtype", "torch_dtype", default="bfloat16").removeprefix("torch.")
    if dtype not in DTYPE_BYTES:
        raise BadInput(
            f"{text.source}: dtype is {dtype!r}", works=f"it must be {', '.join(DTYPE_BYTES)}"
        )
    return dtype


def _vision_bytes(config: Fields, dtype: str) -> int:
    """A vision tower's weights from its own sizes: attention and feed-forward of each block.

    vLLM keeps it whole on every rank. Patch and position embeddings are left out: under 1 %.
    """
    vision = config.section("vision_config")
    if vision is None:
        return 0
    hidden = vision.integer("hidden_size", "embed_dim", high=MAX_HIDDEN)
    depth = vision.integer("num_hidden_layers", "depth", high=1 << 10)
    width = vision.integer("intermediate_size", default=4 * hidden, high=MAX_HIDDEN)
    return depth * (4 * hidden * hidden + 2 * hidden * width) * DTYPE_BYTES[dtype]
