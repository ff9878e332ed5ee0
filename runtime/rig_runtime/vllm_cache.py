"""vLLM's KV cache: one pool of equal blocks for all layers of a rank. Pure.

vLLM 0.32, v1/core/kv_cache_utils.py: layers are put into groups of one kind and one size
(`_get_kv_cache_groups_uniform_page_size`); a block holds one page of every layer of a group, and
each group takes blocks of its own for a sequence. Pages of different kinds are made equal: by more
tokens a page where that divides, by padding where it does not (`unify_kv_cache_spec_page_size`). A
recurrent layer's page is its whole state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil

from rig_runtime.models.shape import Attention, Layer, Recurrent

BLOCK_TOKENS = 16
NULL_BLOCKS = 1
"""The pool never gives out its first block."""

IN_FLIGHT_BATCHES = 2
"""Batches that are scheduled and not yet settled: scheduling is asynchronous by default."""

SIMILAR_SIZES = 1.5
"""Kinds whose layer counts differ by less than this share the larger count, padded."""

STATE_ELEMENT_BYTES = 4
"""Of a recurrent state: float32 unless the model says otherwise; planned as that."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Layers that cache alike: the bytes of one page, and how many pages a sequence takes."""

    page_bytes: int
    block_tokens: int
    window_tokens: int | None = None
    is_state: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """`copies` groups of layers of one kind, each with its own blocks for a sequence."""

    kind: Kind
    copies: int

    def blocks(self, context_tokens: int, in_flight_tokens: int) -> int:
        """Blocks of one sequence in all copies."""
        if self.kind.is_state:
            return self.copies
        if self.kind.window_tokens is None:
            return self.copies * -(-context_tokens // self.kind.block_tokens)
        kept = min(self.kind.window_tokens - 1 + in_flight_tokens, context_tokens)
        return self.copies * (-(-kept // self.kind.block_tokens) + 1)


@dataclass(frozen=True, slots=True)
class Pool:
    """The KV cache of one rank."""

    block_bytes: int
    groups: tuple[Group, ...]
    in_flight_tokens: int

    def blocks(self, context_tokens: int) -> int:
        """Blocks of one sequence."""
        return sum(group.blocks(context_tokens, self.in_flight_tokens) for group in self.groups)

    def bytes(self, context_tokens: int, sequences: int) -> int:
        """The pool that holds `sequences` sequences of that many tokens."""
        return self.block_bytes * (self.blocks(context_tokens) * sequences + NULL_BLOCKS)

    def state_bytes(self, sequences: int) -> int:
        """The part of it that recurrent layers take."""
        states = sum(group.copies for group in self.groups if group.kind.is_state)
        return self.block_bytes * states * sequences

    def most_tokens(self, room_bytes: int, sequences: int, limit_tokens: int) -> int:
        """The longest context up to the limit of which `sequences` fit into that room, in whole
        blocks; 0 where none does.

        The blocks of a sequence never shrink with its length: where several groups take blocks
        the length is found by halving.
        """
        if not self.block_bytes:
            return limit_tokens
        available = (room_bytes // self.block_bytes - NULL_BLOCKS) // sequences
        if self.blocks(limit_tokens) <= available:
            return limit_tokens
        if len(self.groups) == 1 and self.groups[0].kind.window_tokens is None:
            return max(0, available) * self.groups[0].kind.block_tokens
        fits, too_long = 0, -(-limit_tokens // BLOCK_TOKENS)
        while too_long - fits > 1:
            middle = (fits + too_long) // 2
            if self.blocks(middle * BLOCK_TOKENS) <= available:
                fits = middle
            else:
                too_long = middle
        return fits * BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class CachePlan:
    """The groups of a model's layers, formed over all pipeline stages, and their page."""

    page_bytes: int
    groups: tuple[Group, ...]
    members: tuple[tuple[int, ...], ...]
    """For each group of layers, how many of its layers come before each layer."""
    layer_shares: tuple[int, ...]
    """Each layer's part of the cache."""

    @staticmethod
    def of(
        layers: Sequence[Layer], tensor: int, element_bytes: int, state_conv_bytes: int
    ) -> CachePlan:
        """`element_bytes` is of one cached key or value, `state_conv_bytes` of one element of a
        convolution's state."""
        by_kind: dict[Kind, list[int]] = {}
        known: dict[int, tuple[Kind, ...]] = {}
        for number, layer in enumerate(layers):
            if id(layer) not in known:
                kinds = _kinds(layer, tensor, element_bytes, state_conv_bytes)
                known[id(layer)] = tuple(kinds)
            for kind in known[id(layer)]:
                by_kind.setdefault(kind, []).append(number)
        shares = [0] * len(layers)
        if not by_kind:
            return CachePlan(0, (), (), tuple(shares))
        page, same_page = _unified(by_kind)
        for number in (number for members in same_page.values() for number in members):
            shares[number] += 1
        size = _group_size([len(members) for members in same_page.values()])
        groups = tuple(Group(kind, ceil(len(each) / size)) for kind, each in same_page.items())
        counts = tuple(_counts(each, len(layers)) for each in _members(same_page.values(), size))
        return CachePlan(page, groups, counts, tuple(shares))

    def pools(self, partition: Sequence[int], batched_tokens: int) -> tuple[Pool, ...]:
        """The pool of one rank of each stage: a block holds a page of every layer that the widest
        group has there."""
        in_flight = batched_tokens * max(IN_FLIGHT_BATCHES, len(partition))
        found = []
        for first, end in pairwise([0, *accumulate(partition)]):
            widest = max((each[end] - each[first] for each in self.members), default=0)
            found.append(Pool(self.page_bytes * widest, self.groups, in_flight))
        return tuple(found)


def _kinds(layer: Layer, tensor: int, element_bytes: int, conv_bytes: int) -> Iterable[Kind]:
    if layer.attention is not None and layer.attention.stores:
        attention = layer.attention
        page = elements_on_rank(attention, tensor) * element_bytes * BLOCK_TOKENS
        yield Kind(page, BLOCK_TOKENS, attention.window_tokens)
    if layer.recurrent is not None:
        yield Kind(_state_bytes(layer.recurrent, tensor, conv_bytes), 0, is_state=True)


def elements_on_rank(attention: Attention, tensor: int) -> int:
    """Cache elements of one token on one rank: KV heads are divided, beyond one a rank they are
    copied; an MLA vector is whole on every rank."""
    width = attention.key_dim + attention.value_dim
    return width if attention.kind == "mla" else max(1, attention.kv_heads // tensor) * width


def _state_bytes(recurrent: Recurrent, tensor: int, conv_bytes: int) -> int:
    conv = -(-recurrent.conv_elements // tensor) * conv_bytes
    return conv + -(-recurrent.state_elements // tensor) * STATE_ELEMENT_BYTES


def _unified(by_kind: dict[Kind, list[int]]) -> tuple[int, dict[Kind, list[int]]]:
    """One page size for all kinds, and the kinds with it.

    With recurrent layers an attention page first grows, by whole blocks, to at least a state.
    """
    attention = [kind for kind in by_kind if not kind.is_state]
    state = max((kind.page_bytes for kind in by_kind if kind.is_state), default=0)
    largest = max((kind.page_bytes for kind in attention), default=state)
    page = largest * max(1, -(-state // largest)) if attention else largest
    unified: dict[Kind, list[int]] = {}
    for kind, members in by_kind.items():
        same = kind if kind.is_state else _widened(kind, page)
        unified.setdefault(same, []).extend(members)
    return page, unified


def _widened(kind: Kind, page_bytes: int) -> Kind:
    if page_bytes % kind.page_bytes:
        return kind
    tokens = kind.block_tokens * (page_bytes // kind.page_bytes)
    return Kind(page_bytes, tokens, kind.window_tokens)


def _group_size(counts: Sequence[int]) -> int:
    fewest, most = min(counts), max(counts)
    return most if most < fewest * SIMILAR_SIZES else fewest


def _members(kinds: Iterable[list[int]], size: int) -> Iterable[list[int]]:
    """The layers of each group: every n-th of its kind, so that stages share them evenly."""
    for numbers in kinds:
        copies = ceil(len(numbers) / size)
        for start in range(copies):
            yield sorted(numbers)[start::copies]


def _counts(group: Iterable[int], layers: int) -> tuple[int, ...]:
    inside = set(group)
    return (0, *accumulate(int(number in inside) for number in range(layers)))
