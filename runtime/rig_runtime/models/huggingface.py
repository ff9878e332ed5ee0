"""config.json of a Hugging Face model -> ModelShape, with or without its weights beside it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rig_runtime.errors import BadInput, printable
from rig_runtime.models.attention import Heads, attention_of, heads_of_kind, projections, read_heads
from rig_runtime.models.feedforward import (
    FeedForwardSizes,
    divisible_widths,
    feed_forward_matrices,
    read_feed_forward,
)
from rig_runtime.models.fields import Fields, read_json_object
from rig_runtime.models.layers import (
    LayerKind,
    layer_kinds,
    refuse_unknown_structure,
    text_fields,
)
from rig_runtime.models.quantisation import read_quantisation
from rig_runtime.models.recurrent import recurrent_block
from rig_runtime.models.safetensors import read_tensors
from rig_runtime.models.shape import Divisible, Layer, Matrix, ModelShape, Quantisation, Weights
from rig_runtime.models.tensors import with_exact_weights
from rig_runtime.models.weights import DTYPE_BYTES, weights_of

T = TypeVar("T")

MAX_HIDDEN = 1 << 20
MOST_NAME_CHARACTERS = 200
MAX_VOCABULARY = 1 << 26
NORMS_IN_A_LAYER = 2
"""Vectors of the hidden size in one layer; some families have four, all are tiny."""


def read_huggingface(path: Path) -> ModelShape:
    """A directory with a config.json, or a bare config.json. Raises BadInput."""
    file = path / "config.json" if path.is_dir() else path
    name = path.resolve().name if path.is_dir() else path.resolve().parent.name
    shape = shape_from_config(read_json_object(file), printable(name, MOST_NAME_CHARACTERS))
    found = read_tensors(path) if path.is_dir() else None
    return shape if found is None else with_exact_weights(shape, found)


def shape_from_config(config: Fields, name: str) -> ModelShape:
    """The shape that a configuration describes; weights are computed from it. Raises BadInput."""
    text = text_fields(config)
    refuse_unknown_structure(text)
    dtype = _dtype(text)
    hidden = text.integer("hidden_size", "n_embd", "d_model", high=MAX_HIDDEN)
    vocabulary = text.integer("vocab_size", high=MAX_VOCABULARY)
    kinds = layer_kinds(text)
    sizes = read_feed_forward(text, kinds)
    parts = _Parts(text, hidden, dtype, read_heads(text, hidden), sizes, read_quantisation(text))
    built = {kind: parts.layer(kind) for kind in dict.fromkeys(kinds)}
    padded = parts.quantisation is not None and parts.quantisation.pads_groups
    table_bytes = vocabulary * hidden * DTYPE_BYTES[dtype]
    return ModelShape(
        name=name,
        dtype=dtype,
        hidden_size=hidden,
        vocab_size=vocabulary,
        num_attention_heads=parts.heads.attention,
        max_position_embeddings=text.integer("max_position_embeddings", "n_positions"),
        layers=tuple(built[kind].layer for kind in kinds),
        matrices=_distinct(matrix for each in built.values() for matrix in each.matrices),
        divisible=_distinct(
            [
                *divisible_widths(sizes, kinds, padded),
                *(rule for each in built.values() for rule in each.divisible),
            ]
        ),
        embedding_bytes=table_bytes,
        head_bytes=0 if text.flag("tie_word_embeddings", False) else table_bytes,
        outer=Weights(whole_bytes=hidden * DTYPE_BYTES[dtype] + _vision_bytes(config, dtype)),
        widest_ffn=max(sizes.widest, *(kind.ffn_width or 0 for kind in kinds)),
        quantisation=parts.quantisation,
        num_experts=sizes.experts,
        experts_per_token=sizes.experts_per_token,
    )


@dataclass(frozen=True)
class _Built:
    layer: Layer
    matrices: tuple[Matrix, ...]
    divisible: tuple[Divisible, ...]


@dataclass(frozen=True)
class _Parts:
    """What all layers of one configuration have in common."""

    text: Fields
    hidden: int
    dtype: str
    heads: Heads
    sizes: FeedForwardSizes
    quantisation: Quantisation | None

    def layer(self, kind: LayerKind) -> _Built:
        """One kind of layer: its weights, its cache, and the rules of its sizes."""
        heads = heads_of_kind(self.text, self.heads, kind)
        recurrent = recurrent_block(self.text, kind.mixer, self.hidden)
        matrices = (
            *projections(self.text, heads, kind, self.hidden),
            *(recurrent.matrices if recurrent else ()),
            *feed_forward_matrices(self.sizes, kind, self.hidden),
        )
        small = NORMS_IN_A_LAYER * self.hidden + (recurrent.small_elements if recurrent else 0)
        layer = Layer(
            weights_of(matrices, self.quantisation, self.dtype, small * DTYPE_BYTES[self.dtype]),
            attention_of(self.text, heads, kind),
            recurrent.state if recurrent else None,
        )
        return _Built(layer, matrices, recurrent.divisible if recurrent else ())


def _distinct(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))


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
