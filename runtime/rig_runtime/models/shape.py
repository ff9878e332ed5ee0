"""The shape of a model: all that memory, legality and speed need, and no tensor data.

Readers (`huggingface`) make a ModelShape; `memory`, `parallel` and `speed` only read it. Sizes are
bytes of the checkpoint as the engine will hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Shard = Literal["column", "row", "kv", "expert_column", "expert_row", "whole"]
"""How tensor parallelism divides a matrix: its outputs, its inputs, its KV heads, or not at all.

`kv` is a column split that stops at one KV head a rank: beyond, heads are copied. The expert
splits are the same as column and row, of each expert.
"""


@dataclass(frozen=True, slots=True)
class Attention:
    """One layer's attention, as far as its KV cache goes.

    Full and sliding layers store `kv_heads` keys of `key_dim` and values of `value_dim` for each
    token; an MLA layer stores one vector of `key_dim` (latent and rope part) and no value,
    whatever the heads. `stores` is False where a layer reads the cache of an earlier one.
    """

    kind: Literal["full", "sliding", "mla"]
    kv_heads: int
    key_dim: int
    value_dim: int
    window_tokens: int | None = None
    stores: bool = True


@dataclass(frozen=True, slots=True)
class Recurrent:
    """One layer's state that does not grow with context: elements for each sequence."""

    kind: Literal["mamba1", "mamba2", "gated_delta_net"]
    conv_elements: int
    state_elements: int


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of one layer by the way tensor parallelism treats them."""

    split_bytes: int = 0
    kv_bytes: int = 0
    expert_bytes: int = 0
    whole_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.split_bytes + self.kv_bytes + self.expert_bytes + self.whole_bytes

    def __add__(self, other: Weights) -> Weights:
        return Weights(
            self.split_bytes + other.split_bytes,
            self.kv_bytes + other.kv_bytes,
            self.expert_bytes + other.expert_bytes,
            self.whole_bytes + other.whole_bytes,
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer; a layer without attention or without state has None there."""

    weights: Weights
    attention: Attention | None = None
    recurrent: Recurrent | None = None


@dataclass(frozen=True, slots=True)
class Matrix:
    """One linear layer: `outputs` x `inputs` weights, `count` of them alike (experts)."""

    name: str
    outputs: int
    inputs: int
    shard: Shard
    count: int = 1
    bias: bool = False
    heads: int = 0
    """KV heads, of a matrix that is divided by them."""

    @property
    def elements(self) -> int:
        return self.outputs * self.inputs * self.count


@dataclass(frozen=True, slots=True)
class Divisible:
    """A size that tensor parallelism must divide evenly, beyond heads and vocabulary."""

    code: str
    label: str
    size: int


@dataclass(frozen=True, slots=True)
class Quantisation:
    """How the linear layers are stored.

    `group_size` weights along the inputs share a scale (None: a whole row), `block_size` is the
    side of a square block that does. `skipped` are name patterns of linear layers that stay in
    the model's dtype.
    """

    method: str
    bits_per_weight: float
    min_capability: tuple[int, int]
    group_size: int | None = None
    block_size: int | None = None
    pads_groups: bool = False
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A model, as its configuration and its tensor headers describe it."""

    name: str
    dtype: str
    """As the engine computes and caches: 'float16' for GGUF."""
    hidden_size: int
    vocab_size: int
    num_attention_heads: int
    max_position_embeddings: int
    layers: tuple[Layer, ...]
    matrices: tuple[Matrix, ...]
    divisible: tuple[Divisible, ...]
    embedding_bytes: int
    head_bytes: int
    """Of the output projection; 0 where it shares the embedding's tensor (tied)."""
    outer: Weights
    """Outside the layers and not vocabulary: final norm, vision tower."""
    widest_ffn: int
    """Largest feed-forward width that one token passes, for activation memory."""
    source: Literal["huggingface", "gguf"] = "huggingface"
    quantisation: Quantisation | None = None
    num_experts: int = 0
    experts_per_token: int = 0
    weights_exact: bool = False
    notes: tuple[str, ...] = ()

    @property
    def tied(self) -> bool:
        return self.head_bytes == 0

    @property
    def num_hidden_layers(self) -> int:
        return len(self.layers)

    @property
    def weights_bytes(self) -> int:
        """All weights on one card."""
        layers = sum(layer.weights.total_bytes for layer in self.layers)
        return layers + self.embedding_bytes + self.head_bytes + self.outer.total_bytes

    @property
    def kv_head_counts(self) -> tuple[int, ...]:
        """The different numbers of KV heads that tensor parallelism has to divide."""
        return tuple(
            sorted(
                {
                    layer.attention.kv_heads
                    for layer in self.layers
                    if layer.attention and layer.attention.kind != "mla"
                }
            )
        )
