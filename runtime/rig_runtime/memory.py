"""Bytes on each card, for a shape, a split and a load. Pure arithmetic.

Weights and KV cache are exact; compute and fixed costs are estimates, planned high
(each constant says from what). Sources: vLLM 0.32 (v1/worker/gpu_worker.py,
v1/core/kv_cache_utils.py, model_executor/layers/vocab_parallel_embedding.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from rig_runtime.models.shape import Layer, ModelShape
from rig_runtime.models.weights import DTYPE_BYTES
from rig_runtime.plan_types import RankMemory
from rig_runtime.units import MIB
from rig_runtime.vllm_cache import Pool, pools

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

KV_DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}


@dataclass(frozen=True, slots=True)
class Load:
    """What the engine must hold at the same time: sequences of that many tokens."""

    context_tokens: int
    sequences: int
    kv_cache_dtype: str = "auto"
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


def stage_memory(shape: ModelShape, split: Split, load: Load) -> tuple[RankMemory, ...]:
    """What one rank of each pipeline stage needs; the ranks inside a stage are alike."""
    return tuple(
        _rank(
            weights=stage_weights_bytes(shape, split, stage),
            cache=pool.bytes(load.context_tokens, load.sequences),
            state=pool.state_bytes(load.sequences),
            compute=compute_bytes(shape, split, load),
            fixed=fixed_bytes(split),
        )
        for stage, pool in enumerate(pools_of(shape, split, load))
    )


def _rank(*, weights: int, cache: int, state: int, compute: int, fixed: int) -> RankMemory:
    return RankMemory(
        weights_bytes=weights,
        kv_cache_bytes=cache - state,
        state_bytes=state,
        compute_bytes=compute,
        fixed_bytes=fixed,
        total_bytes=weights + cache + compute + fixed,
    )


def fixed_bytes(split: Split) -> int:
    """Outside vLLM's own budget."""
    return FIXED_BYTES_ONE_RANK if split.ranks == 1 else FIXED_BYTES_MANY_RANKS


def stage_weights_bytes(shape: ModelShape, split: Split, stage: int) -> int:
    """Weights of one rank: what shards is divided, what does not is whole on every rank."""
    tensor = split.tensor
    layers = sum(layer_weights_bytes(each, tensor) for each in stage_layers(shape, split, stage))
    outer = 0
    if stage == 0:
        outer += vocabulary_bytes(shape, shape.embedding_bytes, tensor)
        outer += shape.outer.total_bytes
    if stage == len(split.partition) - 1:
        if not shape.tied:
            outer += vocabulary_bytes(shape, shape.head_bytes, tensor)
        elif stage:
            outer += vocabulary_bytes(shape, shape.embedding_bytes, tensor)
    return layers + outer


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


def compute_bytes(shape: ModelShape, split: Split, load: Load) -> int:
    """Activations of the largest batch or the sampler's logits, whichever peaks, and CUDA graphs.

    vLLM profiles a forward pass of `batched_tokens` and a sampler step of `sequences` rows, one
    after the other. Checked against its logs: Llama-3.1-8B on an A10 peaks at 0.22 GiB.
    """
    width = DTYPE_BYTES[shape.dtype]
    per_token = 4 * shape.hidden_size + -(-3 * shape.widest_ffn // split.tensor)
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


def pools_of(shape: ModelShape, split: Split, load: Load) -> tuple[Pool, ...]:
    """The KV cache pool of one rank of each stage."""
    return pools(
        shape.layers,
        split.partition,
        split.tensor,
        kv_bytes_per_element(shape, load.kv_cache_dtype),
        DTYPE_BYTES[shape.dtype],
        load.batched_tokens,
    )


def stage_layers(shape: ModelShape, split: Split, stage: int) -> tuple[Layer, ...]:
    """The layers of one pipeline stage."""
    first = sum(split.partition[:stage])
    return shape.layers[first : first + split.partition[stage]]
