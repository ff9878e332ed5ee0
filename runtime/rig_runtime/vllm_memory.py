"""Bytes on each card for vLLM: tensor and pipeline parallel. Pure arithmetic.

Weights and KV cache are exact; compute and fixed costs are estimates, planned high (each constant
says from what). Sources: vLLM 0.32 (v1/worker/gpu_worker.py, v1/core/kv_cache_utils.py,
model_executor/layers/vocab_parallel_embedding.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from rig_runtime.memory import Load, active, spans
from rig_runtime.models.shape import Layer, ModelShape
from rig_runtime.models.weights import DTYPE_BYTES
from rig_runtime.plan_types import RankMemory
from rig_runtime.units import MIB
from rig_runtime.vllm_cache import CachePlan, Pool

BATCHED_TOKENS = 2048
"""vLLM's default for a server on cards below 70 GiB, stated so that the plan's figures hold."""

VOCABULARY_PADDING = 64
FIXED_BYTES_ONE_RANK = 600 * MIB
FIXED_BYTES_MANY_RANKS = 900 * MIB
"""CUDA context, allocator rounding and, with several ranks, NCCL and the all-reduce buffers.

Logged on consumer cards: 0.05-0.25 GiB of non-torch memory after a context of 0.1-0.5 GiB.
"""

SAMPLER_BYTES_PER_LOGIT = 12
"""The logits of each sequence in the model's dtype, as float32, and one sorted copy."""

CUDA_GRAPH_BYTES = 32 * MIB
"""Of each captured batch size: 1.10 GiB estimated and 0.96 GiB used for 35 sizes of a 55 GiB
model; smaller models use less."""

KV_DTYPES = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2")
KV_DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}


@dataclass(frozen=True)
class RankLayers:
    """What the layers cost one of `tensor` ranks, however they are divided into stages."""

    shape: ModelShape
    tensor: int
    kv_cache_dtype: str

    @cached_property
    def cache(self) -> CachePlan:
        """The KV cache."""
        width = kv_bytes_per_element(self.shape, self.kv_cache_dtype)
        return CachePlan.of(self.shape.layers, self.tensor, width, DTYPE_BYTES[self.shape.dtype])

    def pools(self, partition: Sequence[int], batched_tokens: int) -> tuple[Pool, ...]:
        """The pool of one rank of each stage: many sets of cards divide the layers alike."""
        key = (tuple(partition), batched_tokens)
        if key not in self._known_pools:
            self._known_pools[key] = self.cache.pools(partition, batched_tokens)
        return self._known_pools[key]

    @cached_property
    def _known_pools(self) -> dict[tuple[tuple[int, ...], int], tuple[Pool, ...]]:
        return {}

    @cached_property
    def weights(self) -> list[int]:
        """Weights of each layer."""
        known: dict[int, int] = {}
        for layer in self.shape.layers:
            if id(layer) not in known:
                known[id(layer)] = layer_weights_bytes(layer, self.tensor)
        return [known[id(layer)] for layer in self.shape.layers]

    @cached_property
    def weight_sums(self) -> list[int]:
        """Weights of all layers before each."""
        return [0, *accumulate(self.weights)]

    @cached_property
    def active_sums(self) -> list[int]:
        """Weights that one token reads, of all layers before each."""
        if not self.shape.num_experts:
            return self.weight_sums
        layers = (active(layer, self.shape) for layer in self.shape.layers)
        return [0, *accumulate(layer_weights_bytes(layer, self.tensor) for layer in layers)]


@dataclass(frozen=True)
class VllmNeeds:
    """What the ranks of one tensor size and number of stages need, for any partition."""

    shape: ModelShape
    tensor: int
    stages: int
    load: Load
    layers: RankLayers

    @staticmethod
    def of(shape: ModelShape, tensor: int, stages: int, load: Load) -> VllmNeeds:
        """For one split alone."""
        layers = RankLayers(shape, tensor, load.kv_cache_dtype)
        return VllmNeeds(shape, tensor, stages, load, layers)

    def totals(self, partition: Sequence[int], context_tokens: int) -> list[int]:
        """The bytes of one rank of each stage."""
        pools = self._pools(partition)
        return [
            weights + pool.bytes(context_tokens, self.load.sequences) + self._same_bytes
            for weights, pool in zip(self._weights(partition), pools, strict=True)
        ]

    def ranks(self, partition: Sequence[int], context_tokens: int) -> tuple[RankMemory, ...]:
        """What one rank of each stage needs; the ranks inside a stage are alike."""
        pools = self._pools(partition)
        weights = self._weights(partition)
        return tuple(
            self._rank(weights[stage], pool, context_tokens) for stage, pool in enumerate(pools)
        )

    def most_tokens(self, partition: Sequence[int], rooms: Sequence[int]) -> int:
        """The longest context that fits the room of each stage's smallest card."""
        longest = self.shape.max_position_embeddings
        weights = self._weights(partition)
        for stage, pool in enumerate(self._pools(partition)):
            room = rooms[stage] - self._same_bytes - weights[stage]
            longest = pool.most_tokens(room, self.load.sequences, longest)
        return longest

    def read_bytes(self, partition: Sequence[int], context_tokens: int) -> tuple[int, ...]:
        """What a rank of each stage reads for one token, the context half full."""
        found = []
        pools = self._pools(partition)
        for stage, (first, end) in enumerate(spans(partition)):
            read = self.layers.active_sums[end] - self.layers.active_sums[first]
            if stage == self.stages - 1:
                head = self.shape.head_bytes or self.shape.embedding_bytes
                read += vocabulary_bytes(self.shape, head, self.tensor)
            found.append(read + pools[stage].bytes(context_tokens // 2, 1))
        return tuple(found)

    def layer_bytes(self, context_tokens: int) -> list[int]:
        """Weights and cache of each layer on one rank, to divide layers by."""
        shares = self.layers.cache.layer_shares
        whole = self._pools((len(shares),))[0].bytes(context_tokens, self.load.sequences)
        total = sum(shares) or 1
        return [
            weights + whole * share // total
            for weights, share in zip(self.layers.weights, shares, strict=True)
        ]

    def beside_layers(self, context_tokens: int) -> list[int]:
        """What a rank of each stage holds besides its layers."""
        return [self._same_bytes + outer for outer in self._outer]

    def _pools(self, partition: Sequence[int]) -> tuple[Pool, ...]:
        return self.layers.pools(partition, self.load.batched_tokens)

    @cached_property
    def _outer(self) -> list[int]:
        return [
            outer_weights_bytes(self.shape, self.tensor, stage, self.stages)
            for stage in range(self.stages)
        ]

    @cached_property
    def _compute_bytes(self) -> int:
        return compute_bytes(self.shape, self.tensor, self.load)

    @cached_property
    def _fixed_bytes(self) -> int:
        one = self.tensor * self.stages == 1
        return FIXED_BYTES_ONE_RANK if one else FIXED_BYTES_MANY_RANKS

    @cached_property
    def _same_bytes(self) -> int:
        return self._compute_bytes + self._fixed_bytes

    def _weights(self, partition: Sequence[int]) -> list[int]:
        """Weights of one rank of each stage."""
        sums = self.layers.weight_sums
        return [
            sums[end] - sums[first] + outer
            for (first, end), outer in zip(spans(partition), self._outer, strict=True)
        ]

    def _rank(self, weights: int, pool: Pool, context_tokens: int) -> RankMemory:
        cache = pool.bytes(context_tokens, self.load.sequences)
        state = pool.state_bytes(self.load.sequences)
        return RankMemory(
            weights_bytes=weights,
            kv_cache_bytes=cache - state,
            state_bytes=state,
            compute_bytes=self._compute_bytes,
            fixed_bytes=self._fixed_bytes,
            total_bytes=weights + cache + self._same_bytes,
        )


def outer_weights_bytes(shape: ModelShape, tensor: int, stage: int, stages: int) -> int:
    """What a rank holds besides layers: the first stage the embedding, the last the output
    projection, which for a tied model is the embedding again."""
    outer = 0
    if stage == 0:
        outer += vocabulary_bytes(shape, shape.embedding_bytes, tensor)
        outer += shape.outer.total_bytes
    if stage == stages - 1:
        if not shape.tied:
            outer += vocabulary_bytes(shape, shape.head_bytes, tensor)
        elif stage:
            outer += vocabulary_bytes(shape, shape.embedding_bytes, tensor)
    return outer


def layer_weights_bytes(layer: Layer, tensor: int) -> int:
    """One layer's weights on one of `tensor` ranks: a KV head that is copied is paid for twice."""
    weights = layer.weights
    heads = layer.attention.kv_heads if layer.attention and weights.kv_bytes else tensor
    kv_share = max(1, heads // tensor)
    return (
        -(-weights.split_bytes // tensor)
        + -(-weights.kv_bytes * kv_share // heads)
        + -(-weights.expert_bytes // tensor)
        + weights.whole_bytes
    )


def padded_vocabulary(shape: ModelShape) -> int:
    """The rows of the embedding as vLLM holds them: a multiple of 64."""
    return -(-shape.vocab_size // VOCABULARY_PADDING) * VOCABULARY_PADDING


def vocabulary_bytes(shape: ModelShape, table_bytes: int, tensor: int) -> int:
    """One rank's part of the embedding or of the output projection."""
    return -(-table_bytes * padded_vocabulary(shape) // (shape.vocab_size * tensor))


def compute_bytes(shape: ModelShape, tensor: int, load: Load) -> int:
    """Activations of the largest batch or the sampler's logits, whichever peaks, and CUDA graphs.

    vLLM profiles a forward pass of `batched_tokens` and a sampler step of `sequences` rows, one
    after the other. Checked against its logs: Llama-3.1-8B on an A10 peaks at 0.22 GiB.
    """
    width = DTYPE_BYTES[shape.dtype]
    per_token = 4 * shape.hidden_size + -(-3 * shape.widest_ffn // tensor)
    forward = load.batched_tokens * per_token * width
    sampler = load.sequences * padded_vocabulary(shape) * SAMPLER_BYTES_PER_LOGIT
    graphs = captured_batch_sizes(load.sequences) * CUDA_GRAPH_BYTES
    return max(forward, sampler) + graphs


def captured_batch_sizes(sequences: int) -> int:
    """How many batch sizes vLLM captures: 1, 2, 4, 8..256 by 8, then by 16, up to
    min(2 x sequences, 512)."""
    largest = min(2 * sequences, 512)
    small = sum(size <= largest for size in (1, 2, 4))
    return small + min(largest, 256) // 8 + max(0, largest - 256) // 16


def kv_bytes_per_element(shape: ModelShape, kv_cache_dtype: str) -> int:
    """'auto' is the dtype that the model is served in."""
    return KV_DTYPE_BYTES.get(kv_cache_dtype, DTYPE_BYTES[shape.dtype])
