"""Expected tokens per second, from memory bandwidth and links. Pure; good to rank, not to promise.

Decode reads every active weight once for each token; tensor parallelism adds two all-reduces a
layer and one for the embedding, a pipeline one hop a stage. Latencies and rates of the links are
measurements of others (NCCL over shared memory: 39 us and 1.9-3.7 GB/s between two cards without
peer-to-peer; PCIe risers scaled from it), the efficiency of 0.65 lies in the middle of 0.55-0.8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rig_runtime.gpus import Gpu, Link, Rig
from rig_runtime.memory import Split
from rig_runtime.models.shape import ModelShape
from rig_runtime.models.weights import DTYPE_BYTES

MEMORY_EFFICIENCY = 0.65
LINK_EFFICIENCY = 0.8
LANE_BYTES_PER_SECOND = {1: 0.25e9, 2: 0.5e9, 3: 0.985e9, 4: 1.969e9, 5: 3.938e9, 6: 7.56e9}
SHARED_MEMORY_BYTES_PER_SECOND = 1.9e9
PEER_BYTES_PER_SECOND = 20e9
NVLINK_BYTES_PER_SECOND = 11e9
"""Of one link in one direction: four links of an RTX 3090 are 56 GB/s, 0.8 of it usable."""

ALL_REDUCE_SECONDS = {1: 60e-6, 2: 50e-6, 4: 45e-6, 8: 40e-6, 16: 39e-6}
"""Of a small message between two cards, by PCIe width, through the host's memory."""

PEER_ALL_REDUCE_SECONDS = 10e-6
UNKNOWN_WIDTH = 4
UNKNOWN_GENERATION = 3
"""Taken where a card does not report its link: a riser's, rather than a slot's."""


@dataclass(frozen=True, slots=True)
class Transport:
    """How the cards of a set exchange data: seconds of a small message, and bytes per second."""

    latency_seconds: float
    bytes_per_second: float


LinkTable = Mapping[frozenset[str], Link]
"""Links by the UUIDs of their two cards."""


def link_table(rig: Rig) -> LinkTable:
    """The links of a rig, to look up by pairs of cards."""
    return {frozenset((link.a, link.b)): link for link in rig.links}


def transport(table: LinkTable, gpus: Sequence[Gpu]) -> Transport:
    """The slowest link of the set decides."""
    pairs = combinations(gpus, 2) if table else ()
    links = [table.get(frozenset((a.uuid, b.uuid))) for a, b in pairs]
    if links and all(link is not None and link.nvlinks for link in links):
        fewest = min(link.nvlinks or 0 for link in links if link)
        return Transport(PEER_ALL_REDUCE_SECONDS, fewest * NVLINK_BYTES_PER_SECOND)
    wire = min(_wire_bytes_per_second(gpu) for gpu in gpus)
    if links and all(link is not None and link.p2p for link in links):
        return Transport(PEER_ALL_REDUCE_SECONDS, min(wire, PEER_BYTES_PER_SECOND))
    width = min(gpu.pcie_width_current or UNKNOWN_WIDTH for gpu in gpus)
    usual = max(lanes for lanes in ALL_REDUCE_SECONDS if lanes <= max(1, width))
    return Transport(ALL_REDUCE_SECONDS[usual], min(wire, SHARED_MEMORY_BYTES_PER_SECOND))


def _wire_bytes_per_second(gpu: Gpu) -> float:
    """A card's link as it is wired; the generation is the highest, since idle links slow down."""
    generation = min(gpu.pcie_gen_max or UNKNOWN_GENERATION, 6)
    width = gpu.pcie_width_current or UNKNOWN_WIDTH
    return LANE_BYTES_PER_SECOND[generation] * width * LINK_EFFICIENCY


def decode_tokens_per_second(
    shape: ModelShape,
    split: Split,
    gpus: Sequence[Gpu],
    links: LinkTable,
    read_bytes: Sequence[int],
) -> float | None:
    """One sequence, its context half full; None where a card's bandwidth is unknown.

    `read_bytes` is what a rank of each stage reads for one token.
    """
    if any(gpu.memory_bandwidth_bytes_per_second is None for gpu in gpus):
        return None
    seconds = 0.0
    for stage, read in enumerate(read_bytes):
        cards = gpus[stage * split.tensor : (stage + 1) * split.tensor]
        slowest = min(gpu.memory_bandwidth_bytes_per_second or 1 for gpu in cards)
        seconds += read / (slowest * MEMORY_EFFICIENCY)
        if split.tensor > 1:
            seconds += _all_reduce_seconds(shape, split, stage, transport(links, cards))
    if len(split.partition) > 1:
        link = transport(links, gpus)
        hop = link.latency_seconds + _hidden_bytes(shape) / link.bytes_per_second
        seconds += (len(split.partition) - 1) * hop
    return 1 / seconds


def prefill_tokens_per_second(
    shape: ModelShape, split: Split, gpus: Sequence[Gpu], links: LinkTable
) -> float | None:
    """The ceiling that the links set on reading a prompt; None where no link takes part.

    What the cards compute is not in it: a card does not report its arithmetic speed.
    """
    if split.tensor == 1:
        return None
    slowest = min(
        transport(links, gpus[stage * split.tensor : (stage + 1) * split.tensor]).bytes_per_second
        for stage in range(len(split.partition))
    )
    return slowest / (_all_reduces(shape) * _ring_share(split.tensor) * _hidden_bytes(shape))


def _all_reduce_seconds(shape: ModelShape, split: Split, stage: int, link: Transport) -> float:
    """Of one token in one stage: after o_proj and down_proj of each layer, and the embedding."""
    count = 2 * split.partition[stage] + (stage == 0)
    latency = link.latency_seconds * math.log2(split.tensor)
    moved = _ring_share(split.tensor) * _hidden_bytes(shape)
    return count * (latency + moved / link.bytes_per_second)


def _all_reduces(shape: ModelShape) -> int:
    return 2 * shape.num_hidden_layers + 1


def _ring_share(tensor: int) -> float:
    """A ring all-reduce moves 2(n-1)/n of the message over each link."""
    return 2 * (tensor - 1) / tensor


def _hidden_bytes(shape: ModelShape) -> int:
    return shape.hidden_size * DTYPE_BYTES[shape.dtype]
