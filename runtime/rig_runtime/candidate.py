"""One way to put a model on cards, and what a request wishes for; `candidates` makes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from rig_runtime import speed
from rig_runtime.engine_rules import EngineRules
from rig_runtime.gpus import Gpu
from rig_runtime.memory import Needs, Split
from rig_runtime.models.shape import ModelShape
from rig_runtime.parallel import Reason
from rig_runtime.plan_types import KvCacheDtype, PlanRequest, RankMemory
from rig_runtime.speed import LinkTable

CONTEXT_GOAL_TOKENS = 16384
"""Without a wish, a context beyond this is no reason to take more or slower cards."""

LEAST_CONTEXT_TOKENS = 2048
"""Without a wish, a plan that holds less than this is none."""


@dataclass(frozen=True)
class Wish:
    """What a request means for one shape: the context to reach, and the least that will do."""

    goal_tokens: int
    least_tokens: int
    sequences: int
    kv_cache_dtype: KvCacheDtype

    @staticmethod
    def of(shape: ModelShape, request: PlanRequest) -> Wish:
        longest = shape.max_position_embeddings
        wanted = request.context_tokens
        goal = min(longest, CONTEXT_GOAL_TOKENS) if wanted is None else wanted
        least = min(longest, LEAST_CONTEXT_TOKENS) if wanted is None else wanted
        return Wish(goal, least, request.sequences, request.kv_cache_dtype)


@dataclass(frozen=True)
class Candidate:
    """One engine and split on one set of cards (in rank order), and how it was judged.

    What only some candidates are asked for is computed when they are.
    """

    rules: EngineRules
    split: Split
    gpus: tuple[Gpu, ...]
    reasons: tuple[Reason, ...] = ()
    max_context_tokens: int = 0
    context_tokens: int = 0
    wanted_tokens: int = 0
    rooms: tuple[int, ...] = ()
    needs: Needs | None = None
    links: LinkTable | None = None

    @property
    def legal(self) -> bool:
        return not self.reasons

    @property
    def fits(self) -> bool:
        return self.legal and self.context_tokens > 0

    @cached_property
    def ranks(self) -> tuple[RankMemory, ...]:
        """What each rank needs for the context, or for the least that was wished for."""
        if self.needs is None:
            return ()
        stages = self.needs.ranks(self.split.partition, self.context_tokens or self.wanted_tokens)
        return tuple(stage for stage in stages for _ in range(self.split.tensor))

    @cached_property
    def lacking_bytes(self) -> tuple[int, ...]:
        """For each rank what it needs beyond what its card has; 0 where it fits."""
        if self.needs is None:
            return ()
        tokens = self.context_tokens or self.wanted_tokens
        totals = self.needs.totals(self.split.partition, tokens)
        ranks = (total for total in totals for _ in range(self.split.tensor))
        return tuple(max(0, need - room) for need, room in zip(ranks, self.rooms, strict=True))

    @cached_property
    def decode_tokens_per_second(self) -> float | None:
        """Expected speed of one sequence; None where it does not fit or a card does not say."""
        if self.needs is None or self.links is None or not self.fits:
            return None
        read = self.needs.read_bytes(self.split.partition, self.context_tokens)
        return speed.decode_tokens_per_second(
            self.rules.shape, self.split, self.gpus, self.links, read
        )

    @property
    def uuids(self) -> tuple[str, ...]:
        return tuple(gpu.uuid for gpu in self.gpus)

    @property
    def watts(self) -> float:
        return sum(gpu.power_limit_watts or 0 for gpu in self.gpus)


def closest(candidates: Iterable[Candidate]) -> Candidate | None:
    """Of the legal candidates that do not fit, the one that lacks least on its worst card."""
    short = [c for c in candidates if c.legal and not c.fits]
    return min(short, key=lambda c: (max(c.lacking_bytes), len(c.gpus)), default=None)
