"""What a card is and what of it is usable: the only module that talks to NVML.

A rig is the cards that one machine has now, as values; `--rig FILE` reads the same from JSON.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Snapshot(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GpuProcess(_Snapshot):
    """A process that holds memory of a card; `used_bytes` is None where NVML does not say."""

    pid: int
    kind: Literal["compute", "graphics"]
    name: str | None = None
    used_bytes: int | None = None


class Gpu(_Snapshot):
    """One card. None means that the card does not report the value, never zero.

    `memory_used_bytes` is what processes and the display hold; `memory_reserved_bytes` is what
    the driver keeps for itself (NVML's v2 memory info tells them apart). Limits are in watts,
    bandwidth is memory clock x bus width.
    """

    uuid: str
    bus_id: str
    name: str
    compute_capability: str | None = None
    memory_total_bytes: int = Field(ge=0)
    memory_reserved_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_bandwidth_bytes_per_second: int | None = None
    display_active: bool | None = None
    display_attached: bool | None = None
    pcie_gen_max: int | None = None
    pcie_gen_current: int | None = None
    pcie_width_max: int | None = None
    pcie_width_current: int | None = None
    power_limit_watts: float | None = None
    power_default_watts: float | None = None
    power_min_watts: float | None = None
    power_max_watts: float | None = None
    processes: tuple[GpuProcess, ...] = ()


class Link(_Snapshot):
    """How two cards reach each other. `path` is nvidia-smi's word: PIX, PXB, PHB, NODE, SYS."""

    a: str
    b: str
    nvlinks: int | None = None
    p2p: bool | None = None
    path: str | None = None


class Rig(_Snapshot):
    """All cards of one machine at one moment."""

    driver_version: str | None = None
    gpus: tuple[Gpu, ...] = ()
    links: tuple[Link, ...] = ()
