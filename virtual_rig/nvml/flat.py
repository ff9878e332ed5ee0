"""A scenario as the flat file that the C library reads: numbers in NVML's own units.

Bytes, milliwatts, MHz; what the scenario leaves unknown is left out, and the library then
answers "not supported".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from virtual_rig.models import architecture, brand, card_model
from virtual_rig.scenario import Card, Process, Scenario

DriverState = Literal["loaded", "not_loaded", "mismatch"]
NVIDIA_VENDOR_ID = 0x10DE
_IDLE_SHARE_OF_POWER = 0.06
_GRAPHICS_CLOCK_MAX_MHZ = 2100

# The CUDA version that each driver branch brings (NVIDIA's release notes), newest first.
_CUDA_OF_BRANCH = (
    (610, 13030),
    (595, 13020),
    (590, 13010),
    (580, 13000),
    (575, 12090),
    (570, 12080),
    (560, 12060),
    (550, 12040),
    (535, 12020),
    (0, 12000),
)


@dataclass(frozen=True)
class Driver:
    """What NVML says of the driver. `desktop`: a graphical session runs and holds its cards."""

    state: DriverState
    version: str = ""
    desktop: bool = True


def as_snapshot_says(scenario: Scenario) -> Driver:
    """The driver where no box decides: loaded where the snapshot names a version."""
    if scenario.driver_version is None:
        return Driver("not_loaded")
    return Driver("loaded", scenario.driver_version)


def shown(card: Card, desktop: bool) -> Card:
    """The card as NVML shows it: without a desktop no display and none of its processes.

    `scenario.display_now` says otherwise until the next boot.
    """
    override = card.scenario.display_now
    if desktop if override is None else override:
        return card
    gone = sum(p.used_bytes or 0 for p in card.processes if p.kind == "graphics")
    used = card.memory_used_bytes
    return card.model_copy(
        update={
            "processes": tuple(p for p in card.processes if p.kind != "graphics"),
            "memory_used_bytes": None if used is None else max(0, used - gone),
            "display_active": None if card.display_active is None else False,
        }
    )


def flat(scenario: Scenario, driver: Driver) -> str:
    """The text of the flat file."""
    lines = [
        "# Derived from scenario.json by virtual_rig: edit that.",
        f"driver {driver.state}",
        f"driver_version {driver.version}",
        f"nvml_version {cuda_version(driver.version) // 1000}.{driver.version}",
        f"cuda_driver_version {cuda_version(driver.version)}",
    ]
    for link in scenario.links:
        p2p = None if link.p2p is None else int(link.p2p)
        words = (_known(link.nvlinks), _known(p2p), _known(link.path))
        lines.append(f"link {link.a} {link.b} {' '.join(words)}")
    for card in scenario.present():
        lines += _card_lines(shown(card, driver.desktop))
    return "\n".join(lines) + "\n"


def cuda_version(driver_version: str) -> int:
    """The CUDA version of a driver as NVML writes it: 13000 is 13.0."""
    branch = driver_version.split(".")[0]
    number = int(branch) if branch.isdigit() else 0
    return next(cuda for least, cuda in _CUDA_OF_BRANCH if number >= least)


def _known(value: int | str | None) -> str:
    return "?" if value is None else str(value)


def _card_lines(card: Card) -> list[str]:
    values = {**_identity(card), **_memory(card), **_bus(card), **_power(card), **_moment(card)}
    lines = [f"gpu {card.uuid}"]
    lines += [f"{key} {value}" for key, value in values.items() if value is not None]
    return lines + [_process_line(process) for process in card.processes]


def _process_line(process: Process) -> str:
    name = " ".join((process.name or "").split())
    return f"process {process.pid} {process.kind} {_known(process.used_bytes)} {name}"


def _identity(card: Card) -> dict[str, int | str | None]:
    model, extras = card_model(card.name), card.scenario
    device = int(extras.pci_device_id, 16) if extras.pci_device_id else model.device_id
    subsystem = int(extras.pci_subsystem_device, 16) << 16 | int(extras.pci_subsystem_vendor, 16)
    capability = card.compute_capability
    major, minor = capability.split(".") if capability else (None, None)
    return {
        "name": card.name,
        "serial": extras.serial,
        "bus_id": card.bus_id,
        "pci_device_id": device << 16 | NVIDIA_VENDOR_ID,
        "pci_subsystem_id": subsystem,
        "compute_major": major,
        "compute_minor": minor,
        "architecture": architecture(capability) if capability else None,
        "brand": brand(card.name),
        "cores": model.cores,
    }


def _memory(card: Card) -> dict[str, int | str | None]:
    """Bandwidth is told as NVML tells it: bus width and memory clock, two transfers a clock."""
    width = card.scenario.memory_bus_width_bits or card_model(card.name).bus_width_bits
    bandwidth = card.memory_bandwidth_bytes_per_second
    return {
        "memory_total": card.memory_total_bytes,
        "memory_reserved": card.memory_reserved_bytes,
        "memory_used": card.memory_used_bytes,
        "memory_bus_width": None if bandwidth is None else width,
        "memory_clock_max": None if bandwidth is None else round(bandwidth * 8 / (2e6 * width)),
    }


def _bus(card: Card) -> dict[str, int | str | None]:
    return {
        "pcie_gen_max": card.pcie_gen_max,
        "pcie_gen_current": card.pcie_gen_current,
        "pcie_width_max": card.pcie_width_max,
        "pcie_width_current": card.pcie_width_current,
    }


def _milliwatts(watts: float | None) -> int | None:
    return None if watts is None else round(watts * 1000)


def _power(card: Card) -> dict[str, int | str | None]:
    usage = card.scenario.power_usage_watts
    if usage is None and card.power_limit_watts is not None:
        busy = card.scenario.utilization_percent / 100
        usage = card.power_limit_watts * max(_IDLE_SHARE_OF_POWER, 0.9 * busy)
    return {
        "power_limit": _milliwatts(card.power_limit_watts),
        "power_default": _milliwatts(card.power_default_watts),
        "power_min": _milliwatts(card.power_min_watts),
        "power_max": _milliwatts(card.power_max_watts),
        "power_usage": _milliwatts(usage),
        "graphics_clock_max": _GRAPHICS_CLOCK_MAX_MHZ,
    }


def _moment(card: Card) -> dict[str, int | str | None]:
    extras = card.scenario
    return {
        "display_active": None if card.display_active is None else int(card.display_active),
        "display_attached": None if card.display_attached is None else int(card.display_attached),
        "utilization": extras.utilization_percent,
        "temperature": extras.temperature_celsius,
        "lost": int(extras.lost),
        "xid": extras.xid or 0,
    }
