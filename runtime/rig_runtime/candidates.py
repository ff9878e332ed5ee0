"""Every way to put one model on the cards, judged: legal or why not, how much fits, how fast.

At most 2^8 sets of cards: enumerated, not guessed. What a rank needs depends on the split and not
on the cards, so it is computed once for each split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

from rig_runtime import memory, parallel, speed
from rig_runtime.gpus import Gpu, Rig, usable
from rig_runtime.memory import Load, Split
from rig_runtime.models.shape import ModelShape
from rig_runtime.parallel import Reason
from rig_runtime.plan_types import PlanRequest, RankMemory
from rig_runtime.vllm_cache import BLOCK_TOKENS, Pool

MAX_CARDS_IN_SET = 8
BATCHED_TOKENS = 2048
"""vLLM's default for a server on cards below 70 GiB, stated so that the plan's figures hold."""

CONTEXT_GOAL_TOKENS = 16384
"""Without a wish, a context beyond this is no reason to take more or slower cards."""

LEAST_CONTEXT_TOKENS = 2048
"""Without a wish, a plan that holds less than this is none."""

GAIN_OF_A_CARD = 1.25
"""Each further card of a set must make it this much faster: one card that fits beats two."""

SAME_SPEED = 1.05
"""Speeds are compared in steps of this factor: a prediction is not better than that."""


@dataclass(frozen=True)
class Wish:
    """What a request means for one shape: the context to reach, and the least that will do."""

    goal_tokens: int
    least_tokens: int
    sequences: int
    kv_cache_dtype: str

    @staticmethod
    def of(shape: ModelShape, request: PlanRequest) -> Wish:
        longest = shape.max_position_embeddings
        wanted = request.context_tokens
        goal = min(longest, CONTEXT_GOAL_TOKENS) if wanted is None else wanted
        least = min(longest, LEAST_CONTEXT_TOKENS) if wanted is None else wanted
        return Wish(goal, least, request.sequences, request.kv_cache_dtype)

    def load(self, context_tokens: int) -> Load:
        return Load(context_tokens, self.sequences, self.kv_cache_dtype, BATCHED_TOKENS)


@dataclass(frozen=True)
class Candidate:
    """One split on one set of cards (in rank order), and how it was judged."""

    split: Split
    gpus: tuple[Gpu, ...]
    reasons: tuple[Reason, ...] = ()
    max_context_tokens: int = 0
    context_tokens: int = 0
    ranks: tuple[RankMemory, ...] = ()
    lacking_bytes: tuple[int, ...] = ()
    """For each rank what the wish needs beyond what its card has; 0 where it fits."""
    decode_tokens_per_second: float | None = None

    @property
    def legal(self) -> bool:
        return not self.reasons

    @property
    def fits(self) -> bool:
        return self.legal and self.context_tokens > 0

    @property
    def uuids(self) -> tuple[str, ...]:
        return tuple(gpu.uuid for gpu in self.gpus)

    @property
    def watts(self) -> float:
        return sum(gpu.power_limit_watts or 0 for gpu in self.gpus)


@dataclass(frozen=True)
class Search:
    """All candidates for one model on one rig."""

    shape: ModelShape
    rig: Rig
    request: PlanRequest
    unusable: dict[str, Reason] = field(default_factory=dict)
    """Cards that take no part at all, by UUID."""

    @cached_property
    def wish(self) -> Wish:
        return Wish.of(self.shape, self.request)

    @cached_property
    def room(self) -> dict[str, int]:
        """Usable bytes by UUID."""
        margin = self.request.margin_bytes
        return {gpu.uuid: usable(gpu, margin).usable_bytes for gpu in self.rig.gpus}

    @cached_property
    def cards(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.rig.gpus if gpu.uuid not in self.unusable)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(self._all())

    @cached_property
    def best(self) -> Candidate | None:
        """The best candidate that fits."""
        fitting = [candidate for candidate in self.candidates if candidate.fits]
        return min(fitting, key=self.rank_key, default=None)

    def rank_key(self, candidate: Candidate) -> tuple[float, ...]:
        """Smaller is better: what was asked for, then speed, then fewer cards, then watts.

        The last entry settles ties in favour of cards with least room to spare.
        """
        cards = len(candidate.gpus)
        pace = (candidate.decode_tokens_per_second or 0.0) / GAIN_OF_A_CARD ** (cards - 1)
        return (
            -min(candidate.max_context_tokens, self.wish.goal_tokens),
            -math.floor(math.log(max(pace, 1e-9), SAME_SPEED)),
            cards,
            candidate.watts,
            sum(self.room[uuid] for uuid in candidate.uuids),
        )

    def _all(self) -> Iterator[Candidate]:
        most = min(len(self.cards), MAX_CARDS_IN_SET)
        for count in range(1, most + 1):
            for split in self._splits(count):
                yield from self._on_every_set(split)

    def _splits(self, count: int) -> Iterator[Split]:
        yield Split(count, (self.shape.num_hidden_layers,))

    def _on_every_set(self, split: Split) -> Iterator[Candidate]:
        reasons = self._split_reasons(split)
        needs = RankNeeds.of(self.shape, split, self.wish)
        for cards in combinations(self.cards, split.ranks):
            ordered = tuple(sorted(cards, key=_rank_order))
            against = (*reasons, *self._set_reasons(ordered))
            if against:
                yield Candidate(split, ordered, against)
            else:
                yield self._judge(split, ordered, needs)

    def _split_reasons(self, split: Split) -> tuple[Reason, ...]:
        asked = self.request.tensor_parallel_size
        if asked is not None and split.tensor != asked:
            return (Reason("not_asked_for", f"tensor parallel size {asked} was asked for"),)
        return parallel.tensor_parallel_reasons(self.shape, split.tensor)

    def _set_reasons(self, gpus: Sequence[Gpu]) -> tuple[Reason, ...]:
        dtype = self.request.kv_cache_dtype
        single = (r for gpu in gpus for r in parallel.card_reasons(self.shape, gpu, dtype))
        return (*single, *parallel.group_reasons(gpus))

    def _judge(self, split: Split, gpus: tuple[Gpu, ...], needs: RankNeeds) -> Candidate:
        rooms = [self.room[gpu.uuid] for gpu in gpus]
        longest = min(
            needs.most_tokens(rank // split.tensor, room) for rank, room in enumerate(rooms)
        )
        longest = min(longest, self.shape.max_position_embeddings)
        enough = longest >= self.wish.least_tokens
        context = min(longest, self.wish.goal_tokens) if enough else 0
        ranks = needs.ranks(context or self.wish.least_tokens)
        pace = None
        if enough:
            load = self.wish.load(context)
            pace = speed.decode_tokens_per_second(self.shape, split, gpus, self.rig, load)
        return Candidate(
            split=split,
            gpus=gpus,
            max_context_tokens=longest,
            context_tokens=context,
            ranks=ranks,
            lacking_bytes=tuple(
                max(0, rank.total_bytes - room) for rank, room in zip(ranks, rooms, strict=True)
            ),
            decode_tokens_per_second=pace,
        )


@dataclass(frozen=True)
class RankNeeds:
    """What the ranks of one split need, as a function of the context."""

    shape: ModelShape
    split: Split
    wish: Wish
    constant_bytes: tuple[int, ...]
    """Of each stage, without the KV cache."""
    pools: tuple[Pool, ...]

    @staticmethod
    def of(shape: ModelShape, split: Split, wish: Wish) -> RankNeeds:
        load = wish.load(BLOCK_TOKENS)
        constants = tuple(
            rank.total_bytes - rank.kv_cache_bytes - rank.state_bytes
            for rank in memory.stage_memory(shape, split, load)
        )
        return RankNeeds(shape, split, wish, constants, memory.pools_of(shape, split, load))

    def most_tokens(self, stage: int, room_bytes: int) -> int:
        """The longest context for which a rank of this stage fits into that room."""
        left = room_bytes - self.constant_bytes[stage]
        longest = self.shape.max_position_embeddings
        return self.pools[stage].most_tokens(left, self.wish.sequences, longest)

    def ranks(self, context_tokens: int) -> tuple[RankMemory, ...]:
        needs = memory.stage_memory(self.shape, self.split, self.wish.load(context_tokens))
        return tuple(need for need in needs for _ in range(self.split.tensor))


def _rank_order(gpu: Gpu) -> tuple[tuple[int, int], str, str]:
    """The oldest card first: vLLM asks its first device what all of them can do."""
    return (gpu.capability or (99, 0), gpu.bus_id, gpu.uuid)


def closest(candidates: Iterable[Candidate]) -> Candidate | None:
    """Of the legal candidates that do not fit, the one that lacks least on its worst card."""
    short = [c for c in candidates if c.legal and not c.fits]
    return min(short, key=lambda c: (max(c.lacking_bytes), len(c.gpus)), default=None)
