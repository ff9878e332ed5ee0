"""A scenario: the snapshot of a rig, and what a snapshot cannot say.

One file says what is in the box: the PCI tree, the simulated NVML library and the `cards`
command all come from it. It has the snapshot format that `rig-runtime gpus --json` prints, so
that a real rig can be copied and rehearsed. What only a rehearsal needs (a card that is lost, an
Xid, a load) stands in each card's `scenario`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from virtual_rig.errors import BadInput


class _Values(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Process(_Values):
    """A process that holds memory of a card."""

    pid: int = Field(ge=1)
    kind: Literal["compute", "graphics"]
    name: str | None = None
    used_bytes: int | None = Field(default=None, ge=0)


class Extras(_Values):
    """What a snapshot cannot say; None is derived from the card's name (`models.py`).

    `present` False: taken out of the box, the card is kept here to be put in again. `lost`: on
    the bus but gone for the driver (Xid 79). `display_now` overrides, until the next boot, what
    the box's boot said about the display.
    """

    present: bool = True
    lost: bool = False
    xid: int | None = Field(default=None, ge=0)
    display_now: bool | None = None
    pci_device_id: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{4}$")
    pci_subsystem_vendor: str = Field(default="0x1462", pattern=r"^0x[0-9a-fA-F]{4}$")
    pci_subsystem_device: str = Field(default="0x3890", pattern=r"^0x[0-9a-fA-F]{4}$")
    memory_bus_width_bits: int | None = Field(default=None, gt=0)
    serial: str | None = None
    utilization_percent: int = Field(default=0, ge=0, le=100)
    temperature_celsius: int = Field(default=38, ge=0, le=120)
    power_usage_watts: float | None = Field(default=None, ge=0)


class Card(_Values):
    """One card; the fields are those of a rig snapshot, null where a card does not say."""

    uuid: str = Field(pattern=r"^GPU-[0-9A-Za-z-]+$")
    bus_id: str = Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.0$")
    name: str = Field(min_length=1, max_length=90)
    compute_capability: str | None = Field(default=None, pattern=r"^\d+\.\d$")
    memory_total_bytes: int = Field(ge=0)
    memory_reserved_bytes: int | None = Field(default=None, ge=0)
    memory_used_bytes: int | None = Field(default=None, ge=0)
    memory_bandwidth_bytes_per_second: int | None = Field(default=None, gt=0)
    display_active: bool | None = None
    display_attached: bool | None = None
    pcie_gen_max: int | None = Field(default=None, ge=1, le=6)
    pcie_gen_current: int | None = Field(default=None, ge=1, le=6)
    pcie_width_max: int | None = Field(default=None, ge=1, le=32)
    pcie_width_current: int | None = Field(default=None, ge=1, le=32)
    power_limit_watts: float | None = Field(default=None, ge=0)
    power_default_watts: float | None = Field(default=None, ge=0)
    power_min_watts: float | None = Field(default=None, ge=0)
    power_max_watts: float | None = Field(default=None, ge=0)
    processes: tuple[Process, ...] = ()
    scenario: Extras = Extras()


class CardLink(_Values):
    """How two cards reach each other, in nvidia-smi's words."""

    a: str
    b: str
    nvlinks: int | None = Field(default=None, ge=0, le=18)
    p2p: bool | None = None
    path: str | None = None


class Scenario(_Values):
    """The cards of one box. `driver_version` None: NVML answers "driver not loaded"."""

    driver_version: str | None = None
    gpus: tuple[Card, ...] = ()
    links: tuple[CardLink, ...] = ()

    def present(self) -> tuple[Card, ...]:
        """The cards that are in the box, in bus order as NVML counts them."""
        inside = (card for card in self.gpus if card.scenario.present)
        return tuple(sorted(inside, key=lambda card: card.bus_id))

    def card(self, uuid: str) -> Card:
        """The card with this UUID or unambiguous beginning of one; `BadInput` otherwise."""
        found = [card for card in self.gpus if card.uuid.startswith(uuid)]
        if len(found) == 1:
            return found[0]
        raise BadInput(
            f"Exactly one card was to be named by {uuid!r}",
            found=f"{len(found)} of this rig's cards begin so",
            works="these are there: " + (", ".join(card.uuid for card in self.gpus) or "none"),
        )

    def replaced(self, changed: Card) -> Scenario:
        """The scenario with this card in the place of the one with the same UUID."""
        cards = tuple(changed if card.uuid == changed.uuid else card for card in self.gpus)
        return self.model_copy(update={"gpus": cards})


def parse(text: str, where: str) -> Scenario:
    """The scenario in this JSON text; `BadInput` names the file, the key and the value."""
    try:
        scenario = Scenario.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{where} must hold a rig snapshot as JSON",
            found=f"line {error.lineno}, column {error.colno}: {error.msg}",
            how="Write one with: rig-runtime gpus --json",
        ) from error
    except ValidationError as error:
        raise _invalid(where, error) from error
    _reject_doubles(scenario, where)
    return scenario


def read(path: Path) -> Scenario:
    """The scenario in this file; `BadInput` where it cannot be read or is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"The rig snapshot {path} must be readable",
            found=str(error),
            how="Write one with: rig-runtime gpus --json",
        ) from error
    return parse(text, str(path))


def write(path: Path, scenario: Scenario) -> None:
    """Write it so that a reader sees the old or the new file, never a part."""
    replace_file(path, scenario.model_dump_json(indent=1, exclude_defaults=False) + "\n")


def replace_file(path: Path, text: str, mode: int = 0o644) -> None:
    """Write `text` beside `path` and move it there in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(mode)
    beside.replace(path)


def _invalid(where: str, error: ValidationError) -> BadInput:
    first: Any = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    more = error.error_count() - 1
    return BadInput(
        f"{where} must be a rig snapshot: {key}: {first['msg']}",
        found=f"{key} is {first['input']!r}" + (f" ({more} more errors)" if more else ""),
        how="The format is that of: rig-runtime gpus --json",
    )


def _reject_doubles(scenario: Scenario, where: str) -> None:
    for field in ("uuid", "bus_id"):
        values = [getattr(card, field) for card in scenario.gpus if card.scenario.present]
        double = next((value for value in values if values.count(value) > 1), None)
        if double is not None:
            raise BadInput(
                f"{where} must give every card its own {field}", found=f"{double} stands twice"
            )


@dataclass
class Edit:
    """A scenario while it is being changed."""

    scenario: Scenario


@contextlib.contextmanager
def editing(path: Path) -> Iterator[Edit]:
    """Change a scenario that others may change at the same time; what is set is written."""
    with open(path.with_name(".scenario.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        edit = Edit(read(path))
        before = edit.scenario
        yield edit
        if edit.scenario != before:
            _reject_doubles(edit.scenario, str(path))
            write(path, edit.scenario)


def without_display_overrides(scenario: Scenario) -> Scenario:
    """As after a boot: only the boot says again which displays are lit."""
    for card in scenario.gpus:
        if card.scenario.display_now is not None:
            extras = card.scenario.model_copy(update={"display_now": None})
            scenario = scenario.replaced(card.model_copy(update={"scenario": extras}))
    return scenario
