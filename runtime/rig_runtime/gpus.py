"""What a card is and what of it is usable.

A rig is the cards that one machine has now, as values; `--rig FILE` reads the same from JSON.
`rig_runtime.nvml` reads it from the driver and is the only other place where cards are made.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from rig_runtime.errors import BadInput, printable
from rig_runtime.files import read_bounded

MAX_SNAPSHOT_BYTES = 4 << 20
MOST_NAME_CHARACTERS = 200


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()), MOST_NAME_CHARACTERS)


Name = Annotated[str, AfterValidator(_one_line)]
"""As a card or a process calls itself: anything at all."""

Identity = Annotated[str, Field(pattern=r"^[!-~]{1,100}$")]
"""A UUID or a PCI address: without spaces."""

Bytes = Annotated[int, Field(ge=0, le=1 << 50)]


class _Snapshot(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class GpuProcess(_Snapshot):
    """A process that holds memory of a card; `used_bytes` is None where NVML does not say."""

    pid: int = Field(ge=0, lt=1 << 63)
    kind: Literal["compute", "graphics"]
    name: Name | None = None
    used_bytes: Bytes | None = None


class Gpu(_Snapshot):
    """One card. None means that the card does not report the value, never zero.

    `memory_used_bytes` is what processes and the display hold; `memory_reserved_bytes` is what
    the driver keeps for itself (NVML's v2 memory info tells them apart). Limits are in watts,
    bandwidth is memory clock x bus width. `unavailable` says why a card that is in the machine
    cannot be used: it fell off the bus, or the driver cannot talk to it.
    """

    uuid: Identity
    bus_id: Identity
    name: Name
    compute_capability: str | None = Field(None, pattern=r"^\d{1,2}\.\d{1,2}$")
    memory_total_bytes: Bytes | None = None
    memory_reserved_bytes: Bytes | None = None
    memory_used_bytes: Bytes | None = None
    memory_bandwidth_bytes_per_second: int | None = Field(None, gt=0, le=1 << 50)
    display_active: bool | None = None
    display_attached: bool | None = None
    pcie_gen_max: int | None = Field(None, ge=1, le=8)
    pcie_gen_current: int | None = Field(None, ge=1, le=8)
    pcie_width_max: int | None = Field(None, ge=1, le=32)
    pcie_width_current: int | None = Field(None, ge=1, le=32)
    power_limit_watts: float | None = Field(None, ge=0, le=10_000)
    power_default_watts: float | None = Field(None, ge=0, le=10_000)
    power_min_watts: float | None = Field(None, ge=0, le=10_000)
    power_max_watts: float | None = Field(None, ge=0, le=10_000)
    processes: tuple[GpuProcess, ...] = ()
    unavailable: Name | None = None

    @property
    def capability(self) -> tuple[int, int] | None:
        """The compute capability as numbers that compare: '8.6' -> (8, 6)."""
        return None if self.compute_capability is None else _numbers(self.compute_capability)


@cache
def _numbers(capability: str) -> tuple[int, int]:
    major, minor = capability.split(".")
    return int(major), int(minor)


class Link(_Snapshot):
    """How two cards reach each other. `path` is nvidia-smi's word: PIX, PXB, PHB, NODE, SYS."""

    a: Identity
    b: Identity
    nvlinks: int | None = Field(None, ge=0, le=64)
    p2p: bool | None = None
    path: Name | None = None


class Rig(_Snapshot):
    """All cards of one machine at one moment."""

    driver_version: Name | None = None
    gpus: tuple[Gpu, ...] = Field((), max_length=64)
    links: tuple[Link, ...] = Field((), max_length=64 * 63 // 2)

    @model_validator(mode="after")
    def _identities_are_unique(self) -> Rig:
        uuids = [gpu.uuid for gpu in self.gpus]
        if twice := sorted({uuid for uuid in uuids if uuids.count(uuid) > 1}):
            raise ValueError(f"two cards have the uuid {twice[0]}: a uuid is a card's identity")
        return self

    def link(self, a: str, b: str) -> Link | None:
        """The link between two cards by UUID, whichever way round it was written."""
        return next((link for link in self.links if {link.a, link.b} == {a, b}), None)


class Usable(NamedTuple):
    """The bytes of a card, in parts that add up: total = reserved + held + margin + usable."""

    total_bytes: int
    reserved_bytes: int
    held_bytes: int
    margin_bytes: int
    usable_bytes: int


def usable(gpu: Gpu, margin_bytes: int = 0) -> Usable:
    """What an engine may allocate on this card now: total - reserved - held - margin.

    The one place that decides it. `held` is what the display and other processes have; where the
    card does not report it, what its processes report is taken. A card that is unavailable, or
    whose total is unknown, has nothing usable.
    """
    if gpu.unavailable or gpu.memory_total_bytes is None:
        return Usable(gpu.memory_total_bytes or 0, 0, 0, 0, 0)
    reserved = gpu.memory_reserved_bytes or 0
    held = gpu.memory_used_bytes
    if held is None:
        held = sum(process.used_bytes or 0 for process in gpu.processes)
    left = gpu.memory_total_bytes - reserved - held
    margin = max(0, min(margin_bytes, left))
    return Usable(gpu.memory_total_bytes, reserved, held, margin, max(0, left - margin))


def load_rig(path: Path) -> Rig:
    """Read a snapshot (the output of `rig-runtime gpus --json`).

    A virtual rig's scenario is a snapshot too: what it adds for itself under "scenario" is
    skipped. Raises BadInput.
    """
    try:
        content: Any = json.loads(read_bounded(path, MAX_SNAPSHOT_BYTES))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON", found=str(error)) from error
    return parse_rig(content, str(path))


def parse_rig(content: object, source: str) -> Rig:
    """Validate a snapshot that was read from `source`. Raises BadInput that names the value."""
    if isinstance(content, dict) and isinstance(content.get("gpus"), list):
        cards = [_without_scenario(card) for card in content["gpus"]]
        content = {**content, "gpus": cards}
    try:
        return Rig.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the snapshot"
        raise BadInput(
            f"{source} is not a snapshot of a rig",
            found=f"{place}: {first['msg']}",
            how="write one with: rig-runtime gpus --json",
        ) from error


def snapshot(rig: Rig) -> dict[str, Any]:
    """The rig as `rig-runtime gpus --json` prints it and `load_rig` reads it.

    `unavailable` is there only where a card is: what all cards have is the snapshot format.
    """
    content = rig.model_dump(mode="json")
    for card in content["gpus"]:
        if card["unavailable"] is None:
            del card["unavailable"]
    return content


def _without_scenario(card: object) -> object:
    if isinstance(card, dict):
        return {key: value for key, value in card.items() if key != "scenario"}
    return card
