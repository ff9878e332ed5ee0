"""What the engines' memory figures have in common: the load, the split, the parts of the answer.

`vllm_memory` and `llama_memory` compute them; each is pure arithmetic on a ModelShape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

from rig_runtime.models.shape import Layer, ModelShape, Weights
from rig_runtime.plan_types import KvCacheDtype, RankMemory


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine must hold at the same time: sequences of that many tokens."""

    context_tokens: int
    sequences: int
    kv_cache_dtype: KvCacheDtype = "auto"
    batched_tokens: int = 2048


@dataclass(frozen=True, slots=True)
class Split:
    """How the layers lie on the ranks: each pipeline stage's count of layers, and TP inside it."""

    tensor: int
    partition: tuple[int, ...]

    @property
    def ranks(self) -> int:
        return self.tensor * len(self.partition)


def even_partition(layers: int, stages: int) -> tuple[int, ...]:
    """Layers for each stage as vLLM divides them: the remainder goes to the middle stages."""
    base, rest = divmod(layers, stages)
    counts = [base] * stages
    for stage in range(2, rest + 2):
        counts[-stage] += 1
    return tuple(counts)


def spans(partition: Sequence[int]) -> list[tuple[int, int]]:
    """First layer and end of each stage."""
    return list(pairwise([0, *accumulate(partition)]))


def active(layer: Layer, shape: ModelShape) -> Layer:
    """The layer with only the experts that one token uses."""
    weights = layer.weights
    if not weights.expert_bytes or not shape.num_experts:
        return layer
    used = weights.expert_bytes * shape.experts_per_token // shape.num_experts
    only = Weights(weights.split_bytes, weights.kv_bytes, used, weights.whole_bytes)
    return Layer(only, layer.attention, layer.recurrent)


class Needs(Protocol):
    """What the ranks of one engine need with one tensor size and number of stages."""

    def ranks(self, partition: Sequence[int], context_tokens: int) -> tuple[RankMemory, ...]:
        """What one rank of each stage needs."""

    def totals(self, partition: Sequence[int], context_tokens: int) -> list[int]:
        """The sum of it."""

    def most_tokens(self, partition: Sequence[int], rooms: Sequence[int]) -> int:
        """The longest context that fits the room of each stage's smallest card."""

    def read_bytes(self, partition: Sequence[int], context_tokens: int) -> tuple[int, ...]:
        """What a rank of each stage reads for one token, the context half full."""

    def layer_bytes(self, context_tokens: int) -> list[int]:
        """Weights and cache of each layer on one rank, to divide layers by."""

    def beside_layers(self, context_tokens: int) -> list[int]:
        """What a rank of each stage holds besides its layers."""
