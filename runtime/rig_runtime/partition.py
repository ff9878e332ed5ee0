"""Layers over unequal cards: each stage takes what its own card has room for. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

STEPS = 10
"""Halvings of the fill: the partition is good to 1/1024 of a card."""


def balanced_partition(layer_bytes: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...] | None:
    """Layers for each stage, in order, so that the fullest stage is as empty as can be.

    `rooms` are the bytes that each stage has for layers, after what it holds besides. Every stage
    has at least one layer. None where the layers do not fit.
    """
    sums = [0, *accumulate(layer_bytes)]
    if len(layer_bytes) < len(rooms) or min(rooms) <= 0 or sums[-1] > sum(rooms):
        return None
    shares = _shares(sums, rooms)
    if shares is not None:
        return shares
    if max(layer_bytes) > min(rooms):
        return _searched(sums, rooms)
    best = _filled(sums, rooms)
    if best is None:
        return None
    too_low, enough = 0.0, 1.0
    for _ in range(STEPS):
        fill = (too_low + enough) / 2
        found = _filled(sums, [int(room * fill) for room in rooms])
        if found is None:
            too_low = fill
        else:
            best, enough = found, fill
    return best


def _shares(sums: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...] | None:
    """Layers in proportion to the rooms, to the nearest layer; None where a stage overflows."""
    layers, ends = len(sums) - 1, [0]
    scale = sums[-1] / sum(rooms)
    for room in accumulate(rooms[:-1]):
        wanted = room * scale
        end = bisect_right(sums, wanted) - 1
        if end < layers and sums[end + 1] - wanted < wanted - sums[end]:
            end += 1
        ends.append(end)
    ends.append(layers)
    counts = tuple(end - start for start, end in pairwise(ends))
    fits = all(
        sums[end] - sums[start] <= room
        for (start, end), room in zip(pairwise(ends), rooms, strict=True)
    )
    return counts if fits and min(counts) > 0 else None


def _filled(sums: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...] | None:
    """Each stage in order takes as many layers as fit, and leaves one for each stage after it.

    Where every stage has room for any one layer, no other way leaves fewer layers for the next.
    """
    layers, start = len(sums) - 1, 0
    counts = []
    for stage, room in enumerate(rooms):
        after = len(rooms) - stage - 1
        end = min(bisect_right(sums, sums[start] + room) - 1, layers - after)
        if end <= start:
            return None
        counts.append(end - start)
        start = end
    return tuple(counts) if start == layers else None


def _searched(sums: Sequence[int], rooms: Sequence[int]) -> tuple[int, ...] | None:
    """Any way that fits, where a stage is too small for some layers: all ends are followed."""
    layers = len(sums) - 1
    came_from: list[dict[int, int]] = []
    starts = {0}
    for room in rooms:
        ends: dict[int, int] = {}
        for start in sorted(starts):
            last = bisect_right(sums, sums[start] + room) - 1
            ends |= {end: start for end in range(start + 1, last + 1)}
        came_from.append(ends)
        starts = set(ends)
    counts, end = [], layers
    for ends in reversed(came_from):
        if end not in ends:
            return None
        counts.append(end - ends[end])
        end = ends[end]
    return tuple(reversed(counts))
