"""Which generation an NVIDIA card is, from its PCI device id alone: no driver is needed.

The ranges are those of the device ids in the `supported-gpus.json` that NVIDIA ships with its
driver and of the PCI ID list (pci-ids.ucw.cz). Branches and flavours: NVIDIA's support tables as of
November 2026: 580 is the last branch for Maxwell, Pascal and Volta; Blackwell works with the open
kernel modules only; the open ones need a GSP, which came with Turing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.facts import DisplayDevice

Flavour = Literal["open", "proprietary"]

NVIDIA_VENDOR = "10de"


@dataclass(frozen=True)
class Generation:
    """One row: the driver branches that know the cards, and the kernel modules that run them.

    None as a branch means no bound. `compute_capability` is the lowest of the generation.
    """

    name: str
    first_branch: int | None
    last_branch: int | None
    flavours: tuple[Flavour, ...]
    compute_capability: tuple[int, int]


FERMI = Generation("Fermi", None, 390, ("proprietary",), (2, 0))
KEPLER = Generation("Kepler", None, 470, ("proprietary",), (3, 0))
MAXWELL = Generation("Maxwell", None, 580, ("proprietary",), (5, 0))
PASCAL = Generation("Pascal", None, 580, ("proprietary",), (6, 0))
VOLTA = Generation("Volta", None, 580, ("proprietary",), (7, 0))
TURING = Generation("Turing", 410, None, ("open", "proprietary"), (7, 5))
AMPERE = Generation("Ampere", 450, None, ("open", "proprietary"), (8, 0))
ADA = Generation("Ada", 525, None, ("open", "proprietary"), (8, 9))
HOPPER = Generation("Hopper", 520, None, ("open", "proprietary"), (9, 0))
BLACKWELL = Generation("Blackwell", 570, None, ("open",), (10, 0))

# First and last device id of each range, in order; Hopper lies inside the Ampere range.
_RANGES: tuple[tuple[int, int, Generation], ...] = (
    (0x06C0, 0x06DF, FERMI),
    (0x0DC0, 0x0DFF, FERMI),
    (0x0E22, 0x0E3F, FERMI),
    (0x0F00, 0x0F0F, FERMI),
    (0x0FC0, 0x0FFF, KEPLER),
    (0x1001, 0x103F, KEPLER),
    (0x1040, 0x10FF, FERMI),
    (0x1140, 0x117F, FERMI),
    (0x1180, 0x11FF, KEPLER),
    (0x1200, 0x127F, FERMI),
    (0x1280, 0x12FF, KEPLER),
    (0x1340, 0x143F, MAXWELL),
    (0x15F0, 0x15FF, PASCAL),
    (0x1600, 0x17FF, MAXWELL),
    (0x1B00, 0x1D7F, PASCAL),
    (0x1D80, 0x1DFF, VOLTA),
    (0x1E00, 0x1FFF, TURING),
    (0x2080, 0x20FF, AMPERE),
    (0x2180, 0x21FF, TURING),
    (0x2200, 0x22FF, AMPERE),
    (0x2300, 0x233F, HOPPER),
    (0x2340, 0x2348, HOPPER),
    (0x2414, 0x25FF, AMPERE),
    (0x2600, 0x28FF, ADA),
    (0x2900, 0x31FF, BLACKWELL),
)


def generation(device_id: str) -> Generation | None:
    """The generation of a card by its PCI device id (four hex digits); None if the table lacks it.

    >>> generation("2206").name
    'Ampere'
    """
    number = int(device_id, 16)
    return next((row for first, last, row in _RANGES if first <= number <= last), None)


def nvidia_cards(devices: list[DisplayDevice]) -> list[DisplayDevice]:
    """NVIDIA's display devices: VGA (0300) and 3D controllers (0302), not their audio functions."""
    return [
        device
        for device in devices
        if device["vendor"] == NVIDIA_VENDOR and device["pci_class"] in ("0300", "0302")
    ]


def card_name(device: DisplayDevice) -> str:
    """How a message names a card before any driver knows it: generation, id and place."""
    row = generation(device["device"])
    family = f"{row.name} card" if row else "card"
    return f"{family} [{device['vendor']}:{device['device']}] at {device['bus_id']}"
