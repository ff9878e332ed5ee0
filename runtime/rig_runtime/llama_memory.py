"""Bytes on each card for llama.cpp, which Ollama runs: one card, or layers split over several.

Formulas checked against `llama-fit-params` of llama.cpp 11669 and engine logs (tests/runtime/data);
flash attention is on. The input embedding stays in host memory; a tied model's output projection is
a second copy on the last card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import accumulate

from rig_runtime.memory import Load, active, spans
from rig_runtime.models.shape import Attention, Layer, ModelShape
from rig_runtime.plan_types import RankMemory
from rig_runtime.units import MIB

CONTEXT_STEP = 256
"""llama.cpp pads the context, and each cache, to a multiple of this many cells."""

UBATCH_TOKENS = 512
FIXED_BYTES = 450 * MIB
"""CUDA context and what no buffer accounts for: 451-457 MiB logged on an RTX 4090 and reserved by
Ollama."""

COMPUTE_MARGIN = Fraction(115, 100)
PIPELINE_COPIES = 4
"""With several cards llama.cpp keeps so many copies of a batch's inputs in flight."""

CACHE_BYTES: dict[str, Fraction] = {
    "auto": Fraction(2),
    "f16": Fraction(2),
    "q8_0": Fraction(34, 32),
    "q5_1": Fraction(24, 32),
    "q5_0": Fraction(22, 32),
    "q4_0": Fraction(18, 32),
}
STATE_BYTES = 4


@dataclass(frozen=True)
class LlamaNeeds:
    """What the cards of a layer split need, for any partition."""

    shape: ModelShape
    stages: int
    load: Load
    """Its context is only the one to divide layers by."""

    def ranks(self, partition: Sequence[int], context_tokens: int) -> tuple[RankMemory, ...]:
        """What each card needs; the stages are the cards in order."""
        load = replace(self.load, context_tokens=context_tokens)
        compute = compute_bytes(self.shape, self.stages, load)
        return tuple(
            self._rank(stage, layers, compute, load)
            for stage, layers in enumerate(self._layers(partition))
        )

    def totals(self, partition: Sequence[int], context_tokens: int) -> list[int]:
        """The bytes of each card."""
        return [rank.total_bytes for rank in self.ranks(partition, context_tokens)]

    def most_tokens(self, partition: Sequence[int], rooms: Sequence[int]) -> int:
        """The longest context that fits every card."""
        longest = self.shape.max_position_embeddings
        empty = self.ranks(partition, 0)
        for stage, layers in enumerate(self._layers(partition)):
            room = rooms[stage] - empty[stage].total_bytes
            step = mask_bytes(CONTEXT_STEP, self.stages)
            longest = most_tokens(layers, room, self.load, step, longest)
        return longest

    def read_bytes(self, partition: Sequence[int], context_tokens: int) -> tuple[int, ...]:
        """What each card reads for one token, the context half full."""
        half = replace(self.load, context_tokens=context_tokens // 2, sequences=1)
        caches = [0, *accumulate(cache_bytes(layer, half) for layer in self.shape.layers)]
        found = [
            self._active_sums[end] - self._active_sums[first] + caches[end] - caches[first]
            for first, end in spans(partition)
        ]
        found[-1] += self.shape.head_bytes
        return tuple(found)

    def layer_bytes(self, context_tokens: int) -> list[int]:
        """Weights, cache and state of each layer, to divide layers by."""
        load = replace(self.load, context_tokens=context_tokens)
        return [
            layer.weights.total_bytes
            + cache_bytes(layer, load)
            + state_bytes(layer, load.sequences)
            for layer in self.shape.layers
        ]

    def beside_layers(self, context_tokens: int) -> list[int]:
        """What each card holds besides its layers: the last has the output projection."""
        load = replace(self.load, context_tokens=context_tokens)
        found = [compute_bytes(self.shape, self.stages, load) + FIXED_BYTES] * self.stages
        found[-1] += self._output_bytes
        return found

    @property
    def _output_bytes(self) -> int:
        return self.shape.head_bytes + self.shape.outer.total_bytes

    @cached_property
    def _active_sums(self) -> list[int]:
        layers = (active(layer, self.shape) for layer in self.shape.layers)
        return [0, *accumulate(layer.weights.total_bytes for layer in layers)]

    def _layers(self, partition: Sequence[int]) -> list[tuple[Layer, ...]]:
        return [self.shape.layers[first:end] for first, end in spans(partition)]

    def _rank(self, stage: int, layers: tuple[Layer, ...], compute: int, load: Load) -> RankMemory:
        weights = sum(layer.weights.total_bytes for layer in layers)
        if stage == self.stages - 1:
            weights += self._output_bytes
        cache = sum(cache_bytes(layer, load) for layer in layers)
        state = sum(state_bytes(layer, load.sequences) for layer in layers)
        return RankMemory(
            weights_bytes=weights,
            kv_cache_bytes=cache,
            state_bytes=state,
            compute_bytes=compute,
            fixed_bytes=FIXED_BYTES,
            total_bytes=weights + cache + state + compute + FIXED_BYTES,
        )


def cache_bytes(layer: Layer, load: Load) -> int:
    """One layer's KV cache for all sequences, each with cells of its own."""
    attention = layer.attention
    if attention is None or not attention.stores:
        return 0
    elements = attention.kv_heads * (attention.key_dim + attention.value_dim)
    cells = cells_of(attention, load.context_tokens) * load.sequences
    return int(cells * elements * CACHE_BYTES[load.kv_cache_dtype])


def cells_of(attention: Attention, context_tokens: int) -> int:
    """Cells of one sequence: the context, or the window and a batch, in steps of 256."""
    kept = padded(context_tokens)
    if attention.window_tokens is not None:
        kept = min(kept, padded(attention.window_tokens + UBATCH_TOKENS))
    return kept


def padded(tokens: int) -> int:
    """A context as llama.cpp allocates it."""
    return -(-tokens // CONTEXT_STEP) * CONTEXT_STEP


def state_bytes(layer: Layer, sequences: int) -> int:
    """One layer's recurrent state, float32, for all sequences."""
    recurrent = layer.recurrent
    if recurrent is None:
        return 0
    return (recurrent.conv_elements + recurrent.state_elements) * STATE_BYTES * sequences


def compute_bytes(shape: ModelShape, cards: int, load: Load) -> int:
    """The compute buffer of a card: the logits of a batch and two hidden vectors, 15 % over, and
    the attention mask.

    4 * n_ubatch * (n_vocab + 2 * n_embd) is exact or 2 % over in ten logs of one CUDA card; the CPU
    backend needs the mask besides. Several cards each hold copies of the mask.
    """
    logits = 4 * UBATCH_TOKENS * (shape.vocab_size + 2 * shape.hidden_size)
    return int(logits * COMPUTE_MARGIN) + mask_bytes(load.context_tokens, cards)


def mask_bytes(context_tokens: int, cards: int) -> int:
    """The attention mask of one batch: 16 bits on one card, float32 copies with several."""
    one = UBATCH_TOKENS * padded(context_tokens)
    return 2 * one if cards == 1 else 4 * one * PIPELINE_COPIES


def most_tokens(
    layers: Sequence[Layer], room_bytes: int, load: Load, step_bytes: int, limit_tokens: int
) -> int:
    """The longest context whose caches, and `step_bytes` for each 256 tokens, fit that room.

    A sliding layer stops growing at its window: between those lengths the cost is a straight
    line, which is solved for the length. 0 where even 256 tokens do not fit.
    """
    limit = padded(limit_tokens)
    attentions = [layer.attention for layer in layers if layer.attention and layer.attention.stores]
    ends = {cells_of(each, limit) for each in attentions} | {limit}
    paid, start = 0, 0
    for end in sorted(ends):
        step = step_bytes + sum(
            _step_bytes(each, load) for each in attentions if cells_of(each, limit) > start
        )
        steps = (end - start) // CONTEXT_STEP
        possible = (room_bytes - paid) // step if step else steps
        if possible < steps:
            return max(0, start + possible * CONTEXT_STEP)
        paid, start = paid + steps * step, end
    return limit_tokens


def _step_bytes(attention: Attention, load: Load) -> int:
    elements = attention.kv_heads * (attention.key_dim + attention.value_dim)
    cells = CONTEXT_STEP * load.sequences
    return int(cells * elements * CACHE_BYTES[load.kv_cache_dtype])
