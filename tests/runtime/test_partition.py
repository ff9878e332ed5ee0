"""Layers over unequal cards: whole, in order, fitting whenever any way fits, and balanced."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from rig_runtime.partition import balanced_partition

layers = st.lists(st.integers(1, 50), min_size=1, max_size=9)
rooms = st.lists(st.integers(-5, 200), min_size=1, max_size=4)


def fullest(sizes: list[int], counts: tuple[int, ...], have: list[int]) -> float:
    ends = [sum(counts[:i]) for i in range(len(counts) + 1)]
    loads = [sum(sizes[a:b]) for a, b in pairwise(ends)]
    return max(load / room for load, room in zip(loads, have, strict=True))


def every_way(count: int, stages: int) -> list[tuple[int, ...]]:
    cuts = combinations(range(1, count), stages - 1)
    return [tuple(b - a for a, b in pairwise((0, *cut, count))) for cut in cuts]


@example([1, 1, 2, 1], [2, 1, 3])
@given(layers, rooms)
def test_it_is_found_exactly_when_there_is_a_way(sizes: list[int], have: list[int]) -> None:
    found = balanced_partition(sizes, have)
    fitting = [
        way
        for way in every_way(len(sizes), len(have))
        if min(have) > 0 and fullest(sizes, way, have) <= 1
    ]
    assert (found is not None) == bool(fitting)
    if found is not None:
        assert found in fitting


@given(st.integers(8, 80), st.lists(st.integers(50, 400), min_size=2, max_size=4))
def test_equal_layers_go_by_room(count: int, have: list[int]) -> None:
    """No stage is more than a layer fuller than the best way would have it."""
    found = balanced_partition([1] * count, have)
    if found is None:
        return
    even = count / sum(have)
    assert fullest([1] * count, found, have) <= even + 1 / min(have)
