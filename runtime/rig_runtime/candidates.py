"""Every way to put one model on the cards, judged: legal or why not, how much fits, how fast.

At most 2^8 sets of cards: enumerated, not guessed. What a rank needs depends on the split and not
on the cards, so it is computed once for each split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from rig_runtime import speed
from rig_runtime.candidate import Candidate, Wish
from rig_runtime.engine_rules import RULES, EngineRules
from rig_runtime.gpus import Gpu, Rig, usable
from rig_runtime.memory import Load, Needs, Split
from rig_runtime.models.shape import ModelShape
from rig_runtime.parallel import Reason
from rig_runtime.partition import balanced_partition
from rig_runtime.plan_types import PlanRequest
from rig_runtime.power import safe_limits
from rig_runtime.speed import LinkTable

MAX_CARDS_IN_SET = 8

GAIN_OF_A_CARD = 1.25
"""Each further card of a set must make it this much faster: one card that fits beats two."""

SAME_SPEED = 1.05
"""Speeds are compared in steps of this factor: a prediction is not better than that."""


def unusable_cards(rig: Rig, request: PlanRequest) -> dict[str, Reason]:
    """Cards that take no part whatever the model is, by UUID."""
    found: dict[str, Reason] = {}
    for gpu in rig.gpus:
        if gpu.unavailable:
            found[gpu.uuid] = Reason("unavailable", gpu.unavailable)
        elif gpu.memory_total_bytes is None:
            found[gpu.uuid] = Reason("memory_unknown", "it does not report how much memory it has")
        elif gpu.uuid in request.exclude:
            found[gpu.uuid] = Reason("excluded_by_request", "it was asked to be left out")
    return found


@dataclass(frozen=True)
class Search:
    """All candidates for one model on one rig."""

    shape: ModelShape
    rig: Rig
    request: PlanRequest
    unusable: dict[str, Reason]
    """Cards that take no part at all, by UUID."""
    engines: tuple[EngineRules, ...]
    """Those that may be used."""

    @staticmethod
    def of(shape: ModelShape, rig: Rig, request: PlanRequest) -> Search:
        """A search with the engine that was asked for, or all that are installed."""
        names = request.engines if request.engine is None else (request.engine,)
        engines = tuple(RULES[name](shape) for name in names)
        return Search(shape, rig, request, unusable_cards(rig, request), engines)

    def asked_again(self, rig: Rig | None = None, request: PlanRequest | None = None) -> Search:
        """The same question for another rig or with another wish, the engine apart."""
        rig, request = rig or self.rig, request or self.request
        return Search(self.shape, rig, request, unusable_cards(rig, request), self.engines)

    @cached_property
    def wish(self) -> Wish:
        return Wish.of(self.shape, self.request)

    @cached_property
    def room(self) -> dict[str, int]:
        """Usable bytes by UUID."""
        margin = self.request.margin_bytes
        return {gpu.uuid: usable(gpu, margin).usable_bytes for gpu in self.rig.gpus}

    @cached_property
    def links(self) -> LinkTable:
        return speed.link_table(self.rig)

    @cached_property
    def cards(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.rig.gpus if gpu.uuid not in self.unusable)

    @cached_property
    def sharing_cards(self) -> tuple[Gpu, ...]:
        """The cards whose sets are enumerated: all of up to eight, else the eight that have most
        room and bandwidth. Alone, every card is tried."""
        if len(self.cards) <= MAX_CARDS_IN_SET:
            return self.cards
        best = sorted(
            self.cards,
            key=lambda gpu: (
                -self.room[gpu.uuid],
                -(gpu.memory_bandwidth_bytes_per_second or 0),
                gpu.bus_id,
            ),
        )
        return tuple(best[:MAX_CARDS_IN_SET])

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(candidate for rules in self.engines for candidate in self._of_engine(rules))

    @cached_property
    def ranked(self) -> tuple[Candidate, ...]:
        """The candidates that fit, best first."""
        fitting = (candidate for candidate in self.candidates if candidate.fits)
        return tuple(sorted(fitting, key=self.rank_key))

    @property
    def best(self) -> Candidate | None:
        """The best candidate that fits."""
        return next(iter(self.ranked), None)

    @cached_property
    def longest(self) -> int:
        """The longest context of any legal candidate, whether or not it is what was wished for.

        For a given split, cards with more room never hold less: of each number of cards only the
        roomiest have to be looked at.
        """
        return max((self._longest_of(rules) for rules in self.engines), default=0)

    def _longest_of(self, rules: EngineRules) -> int:
        if rules.model_reasons(self.request.kv_cache_dtype):
            return 0
        able = [gpu for gpu in self.cards if not self.card_reasons(rules, gpu)]
        able.sort(key=lambda gpu: -self.room[gpu.uuid])
        most = 0
        for group in rules.may_share(able):
            for count in range(1, min(len(group), MAX_CARDS_IN_SET) + 1):
                for tensor, stages in rules.grids(count):
                    grid = _Grid(self, rules, tensor, stages)
                    if not self.grid_reasons(rules, tensor, stages):
                        most = max(most, grid.longest(group[:count]))
        return most

    def power_limits(self, gpus: Sequence[Gpu]) -> dict[str, float] | Reason:
        """The limits at which these cards may work at once, or why they may not."""
        request = self.request
        return safe_limits(gpus, self.cards, request.power_supplies, request.busy)

    def power_reasons(self, gpus: Sequence[Gpu]) -> tuple[Reason, ...]:
        """Why a power supply cannot feed these cards at once."""
        limits = self.power_limits(gpus)
        return (limits,) if isinstance(limits, Reason) else ()

    def card_reasons(self, rules: EngineRules, gpu: Gpu) -> tuple[Reason, ...]:
        """Why the engine cannot use a card, computed once."""
        key = (rules.name, gpu.uuid)
        if key not in self._card_reasons:
            self._card_reasons[key] = rules.card_reasons(gpu, self.request.kv_cache_dtype)
        return self._card_reasons[key]

    @cached_property
    def _card_reasons(self) -> dict[tuple[str, str], tuple[Reason, ...]]:
        return {}

    @cached_property
    def by_card(self) -> dict[str, list[Candidate]]:
        """The candidates that each card takes part in, by UUID."""
        found: dict[str, list[Candidate]] = {gpu.uuid: [] for gpu in self.rig.gpus}
        for candidate in self.candidates:
            for gpu in candidate.gpus:
                found[gpu.uuid].append(candidate)
        return found

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

    def _of_engine(self, rules: EngineRules) -> Iterator[Candidate]:
        against = rules.model_reasons(self.request.kv_cache_dtype)
        if against:
            yield from (Candidate(rules, self._whole(), (gpu,), against) for gpu in self.cards)
            return
        most = min(len(self.cards), MAX_CARDS_IN_SET)
        for count in range(1, most + 1):
            for tensor, stages in rules.grids(count):
                yield from _Grid(self, rules, tensor, stages).candidates()

    def _whole(self) -> Split:
        return Split(1, (self.shape.num_hidden_layers,))

    def grid_reasons(self, rules: EngineRules, tensor: int, stages: int) -> tuple[Reason, ...]:
        asked = self.request.tensor_parallel_size
        if asked is not None and tensor != asked:
            return (Reason("not_asked_for", f"tensor parallel size {asked} was asked for"),)
        return rules.split_reasons(tensor, stages)


@dataclass(frozen=True)
class _Grid:
    """All sets of cards for one engine with one tensor size and one number of stages."""

    search: Search
    rules: EngineRules
    tensor: int
    stages: int

    def candidates(self) -> Iterator[Candidate]:
        search = self.search
        reasons = search.grid_reasons(self.rules, self.tensor, self.stages)
        count = self.tensor * self.stages
        for cards in combinations(search.sharing_cards if count > 1 else search.cards, count):
            ordered = self._in_rank_order(cards)
            against = (*reasons, *self._set_reasons(ordered))
            if against:
                yield Candidate(self.rules, self._even(), ordered, against)
            else:
                yield self._judge(ordered)

    def _in_rank_order(self, cards: Sequence[Gpu]) -> tuple[Gpu, ...]:
        """The oldest card first: vLLM asks its first device what all of them can do. With tensor
        parallel stages, cards of like room share a stage."""
        if self.tensor > 1 and self.stages > 1:
            room = self.search.room
            return tuple(sorted(cards, key=lambda gpu: (_age(gpu), room[gpu.uuid], gpu.bus_id)))
        return tuple(sorted(cards, key=lambda gpu: (_age(gpu), gpu.bus_id, gpu.uuid)))

    def _set_reasons(self, gpus: Sequence[Gpu]) -> Iterator[Reason]:
        if self._all_cards_may:
            return
        for gpu in gpus:
            yield from self.search.card_reasons(self.rules, gpu)
        yield from self.rules.group_reasons(gpus)
        yield from self.search.power_reasons(gpus)

    @cached_property
    def _all_cards_may(self) -> bool:
        """Whether no card of the rig has a reason, alone or with others: usual, and quick."""
        cards = self.search.cards
        alone = any(self.search.card_reasons(self.rules, gpu) for gpu in cards)
        together = self.rules.group_reasons(cards) or self.search.power_reasons(cards)
        return not alone and not together

    def longest(self, cards: Sequence[Gpu]) -> int:
        """The longest context on this set of cards."""
        smallest = self._smallest_rooms(self._in_rank_order(cards))
        return self._needs.most_tokens(self._split(smallest).partition, smallest)

    def _smallest_rooms(self, gpus: Sequence[Gpu]) -> list[int]:
        """For each stage, the room of its smallest card."""
        room = [self.search.room[gpu.uuid] for gpu in gpus]
        starts = range(0, len(room), self.tensor)
        return [min(room[start : start + self.tensor]) for start in starts]

    def _even(self) -> Split:
        count = self.search.shape.num_hidden_layers
        base, rest = divmod(count, self.stages)
        return Split(self.tensor, tuple(base + (i < rest) for i in range(self.stages)))

    @cached_property
    def _needs(self) -> Needs:
        wish = self.search.wish
        load = Load(
            wish.goal_tokens, wish.sequences, wish.kv_cache_dtype, self.rules.batched_tokens
        )
        return self.rules.needs(self.tensor, self.stages, load)

    @cached_property
    def _layer_costs(self) -> tuple[tuple[list[int], list[int]], ...]:
        """What layers cost and what is beside them, for the goal and for the least context."""
        wish = self.search.wish
        contexts = dict.fromkeys((wish.goal_tokens, wish.least_tokens))
        return tuple(
            (self._needs.layer_bytes(tokens), self._needs.beside_layers(tokens))
            for tokens in contexts
        )

    def _split(self, rooms: Sequence[int]) -> Split:
        """The layers of each stage: by each card's own room, for the goal or the least context."""
        if self.stages == 1:
            return Split(self.tensor, (self.search.shape.num_hidden_layers,))
        for layers, beside in self._layer_costs:
            left = [room - besides for room, besides in zip(rooms, beside, strict=True)]
            partition = balanced_partition(layers, left)
            if partition is not None:
                return Split(self.tensor, partition)
        return self._even()

    def _judge(self, gpus: tuple[Gpu, ...]) -> Candidate:
        search = self.search
        smallest = self._smallest_rooms(gpus)
        split = self._split(smallest)
        longest = self._needs.most_tokens(split.partition, smallest)
        enough = longest >= search.wish.least_tokens
        return Candidate(
            rules=self.rules,
            split=split,
            gpus=gpus,
            max_context_tokens=longest,
            context_tokens=min(longest, search.wish.goal_tokens) if enough else 0,
            wanted_tokens=search.wish.least_tokens,
            rooms=tuple(search.room[gpu.uuid] for gpu in gpus),
            needs=self._needs,
            links=search.links,
        )


def _age(gpu: Gpu) -> tuple[int, int]:
    """Smaller is older; an unknown capability counts as new."""
    return gpu.capability or (99, 0)
