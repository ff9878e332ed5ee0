"""The cards on the PCI bus, and what is in use on them before a driver of ours is there."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase

from tasks.facts.lines import first, integer, pairs, yes


class DisplayDevice(TypedDict):
    """One PCI display device as sysfs shows it, with or without a driver."""

    bus_id: str
    vendor: str
    device: str
    pci_class: str
    driver: str | None
    boot_vga: bool | None
    link_width: int | None
    link_width_max: int | None
    link_speed: str | None
    link_speed_max: str | None


class DisplayDevices(FactBase[list[DisplayDevice]]):
    """Every PCI device of class 03 (display), NVIDIA's and others', in order of bus id."""

    _FIELDS = (
        "vendor",
        "device",
        "class",
        "boot_vga",
        "current_link_width",
        "max_link_width",
        "current_link_speed",
        "max_link_speed",
    )

    @staticmethod
    def default() -> list[DisplayDevice]:
        return []

    def command(self) -> str:
        return (
            "for card in /sys/bus/pci/devices/*; do "
            'case "$(cat "$card/class" 2>/dev/null)" in 0x03*) ;; *) continue ;; esac; '
            'echo "card=${card##*/}"; '
            f"for field in {' '.join(self._FIELDS)}; do "
            'echo "$field=$(cat "$card/$field" 2>/dev/null)"; done; '
            '[ -L "$card/driver" ] && '
            'echo "driver=$(basename "$(readlink "$card/driver")")"; '
            "done; true"
        )

    def process(self, output: list[str]) -> list[DisplayDevice]:
        blocks: list[list[str]] = []
        for line in output:
            if line.startswith("card="):
                blocks.append([])
            if blocks:
                blocks[-1].append(line)
        return sorted((self._device(pairs(block)) for block in blocks), key=lambda d: d["bus_id"])

    @staticmethod
    def _device(found: dict[str, list[str]]) -> DisplayDevice:
        return {
            "bus_id": found["card"][0].lower(),
            "vendor": found["vendor"][0].removeprefix("0x").lower(),
            "device": found["device"][0].removeprefix("0x").lower(),
            "pci_class": found["class"][0].removeprefix("0x").lower()[:4],
            "driver": first(found, "driver"),
            "boot_vga": yes(first(found, "boot_vga")),
            "link_width": integer(first(found, "current_link_width")),
            "link_width_max": integer(first(found, "max_link_width")),
            "link_speed": first(found, "current_link_speed"),
            "link_speed_max": first(found, "max_link_speed"),
        }


class CardMemory(FactBase[dict[str, int]]):
    """Bytes in use on each card by its bus id, as a driver that is already there says."""

    @staticmethod
    def default() -> dict[str, int]:
        return {}

    def command(self) -> str:
        return (
            "nvidia-smi --query-gpu=pci.bus_id,memory.used --format=csv,noheader,nounits "
            "2>/dev/null || true"
        )

    def process(self, output: list[str]) -> dict[str, int]:
        """nvidia-smi writes an eight-digit domain and MiB: `00000000:01:00.0, 612`."""
        rows = (line.split(",") for line in output)
        return {
            row[0].strip().lower()[-12:]: int(row[1]) << 20
            for row in rows
            if len(row) == 2 and row[1].strip().isdigit()
        }
