"""The PCI bus as sysfs shows it, made from the cards of a scenario.

`tree` is pure: files and links by their path under /sys. `write_tree` brings a folder to that
state entry by entry, so that what is mounted in a running box changes under it. What a file holds
is what Linux writes there (Documentation/ABI/testing/sysfs-bus-pci).
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from virtual_rig.models import card_model
from virtual_rig.nvml.flat import NVIDIA_VENDOR_ID
from virtual_rig.scenario import Card

ROOT = "devices/pci0000:00"
BUS = "bus/pci"

_SPEEDS = {
    1: "2.5 GT/s PCIe",
    2: "5.0 GT/s PCIe",
    3: "8.0 GT/s PCIe",
    4: "16.0 GT/s PCIe",
    5: "32.0 GT/s PCIe",
    6: "64.0 GT/s PCIe",
}
_VGA, _3D, _AUDIO, _BRIDGE = 0x030000, 0x030200, 0x040300, 0x060400
_AUDIO_DEVICE_ID = 0x228B
_INTEL = 0x8086
_NO_REGION = "0x0000000000000000 0x0000000000000000 0x0000000000000000"
_REGIONS = (
    "0x00000000a0000000 0x00000000a0ffffff 0x0000000000040200",
    "0x0000002000000000 0x000000200fffffff 0x000000000014220c",
)
_CONFIG_BYTES = 256
_CAPABILITY_AT = 0x60


@dataclass(frozen=True)
class Link:
    """A symbolic link to another path under /sys."""

    to: str


Tree = Mapping[str, bytes | Link]


@dataclass(frozen=True)
class _Device:
    """One function on the bus; a generation or width of None is not reported."""

    bdf: str
    path: str
    vendor: int
    device: int
    device_class: int
    subsystem: tuple[int, int] = (_INTEL, 0x7270)
    now: tuple[int | None, int | None] = (None, None)
    most: tuple[int | None, int | None] = (None, None)
    boot_vga: bool | None = None
    driver: str | None = None
    secondary_bus: int | None = None
    lost: bool = False


def tree(cards: Sequence[Card], driver: str | None) -> Tree:
    """The bus with these cards; `driver` is what the kernel bound to them: nouveau, nvidia."""
    entries: dict[str, bytes | Link] = {}
    for device in _devices(cards, driver):
        for name, content in _files(device).items():
            entries[f"{device.path}/{name}"] = content.encode()
        entries[f"{device.path}/config"] = _config(device)
        entries[f"{device.path}/subsystem"] = Link(BUS)
        entries[f"{BUS}/devices/{device.bdf}"] = Link(device.path)
        if device.driver:
            entries[f"{device.path}/driver"] = Link(f"{BUS}/drivers/{device.driver}")
            entries[f"{BUS}/drivers/{device.driver}/{device.bdf}"] = Link(device.path)
    return entries


def write_tree(folder: Path, entries: Tree, kept: Collection[str] = ()) -> None:
    """Make `folder` hold these entries and nothing else, changing only what differs.

    `kept`: folders that stay although nothing is in them, because they are mounted in the box.
    """
    for path in kept:
        (folder / path).mkdir(parents=True, exist_ok=True)
    for path, entry in entries.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Link):
            _write_link(target, os.path.relpath(entry.to, os.path.dirname(path)))
        else:
            _write_file(target, entry)
    _remove_others(folder, set(entries), kept)


def _devices(cards: Sequence[Card], driver: str | None) -> Iterator[_Device]:
    boot = _boot_card(cards)
    ports = set()
    for card in cards:
        domain, bus, place = card.bus_id.split(":")
        port = _port_of(int(bus, 16), domain)
        parent = f"{ROOT}/{port}" if int(bus, 16) else ROOT
        if int(bus, 16) and port not in ports:
            ports.add(port)
            yield _port(card, port, int(bus, 16))
        yield _graphics(card, parent, card is boot, driver)
        audio = f"{domain}:{bus}:{place.removesuffix('.0')}.1"
        subsystem = _subsystem(card)
        yield _Device(
            audio, f"{parent}/{audio}", NVIDIA_VENDOR_ID, _AUDIO_DEVICE_ID, _AUDIO, subsystem
        )


def _boot_card(cards: Sequence[Card]) -> Card | None:
    """Where the firmware shows its screen: the card with the monitor, else the first one."""
    with_monitor = (card for card in cards if card.display_attached or card.display_active)
    return next(with_monitor, cards[0] if cards else None)


def _port_of(bus: int, domain: str) -> str:
    return f"{domain}:00:{(0x10 + bus // 8) & 0x1F:02x}.{bus % 8}"


def _port(card: Card, port: str, bus: int) -> _Device:
    return _Device(
        bdf=port,
        path=f"{ROOT}/{port}",
        vendor=_INTEL,
        device=0xA340,
        device_class=_BRIDGE,
        now=(card.pcie_gen_current, card.pcie_width_current),
        most=(card.pcie_gen_max, card.pcie_width_current),
        driver="pcieport",
        secondary_bus=bus,
    )


def _graphics(card: Card, parent: str, boots: bool, driver: str | None) -> _Device:
    extras = card.scenario
    compute_only = card.name.startswith("Tesla")
    return _Device(
        bdf=card.bus_id,
        path=f"{parent}/{card.bus_id}",
        vendor=NVIDIA_VENDOR_ID,
        device=int(extras.pci_device_id, 16)
        if extras.pci_device_id
        else card_model(card.name).device_id,
        device_class=_3D if compute_only else _VGA,
        subsystem=_subsystem(card),
        now=(card.pcie_gen_current, card.pcie_width_current),
        most=(card.pcie_gen_max, card.pcie_width_max),
        boot_vga=None if compute_only else boots,
        driver=driver,
        lost=extras.lost,
    )


def _subsystem(card: Card) -> tuple[int, int]:
    extras = card.scenario
    return int(extras.pci_subsystem_vendor, 16), int(extras.pci_subsystem_device, 16)


def _files(device: _Device) -> dict[str, str]:
    vendor, number = device.subsystem
    lines = {
        "vendor": f"0x{device.vendor:04x}",
        "device": f"0x{device.device:04x}",
        "class": f"0x{device.device_class:06x}",
        "revision": "0xa1",
        "irq": "16",
        "enable": "1",
        "numa_node": "-1",
        "local_cpulist": "0",
        "subsystem_vendor": f"0x{vendor:04x}",
        "subsystem_device": f"0x{number:04x}",
        "modalias": _modalias(device),
        "uevent": _uevent(device),
        "resource": "\n".join((*_REGIONS, *[_NO_REGION] * 11)),
        **_link_files("current", *device.now),
        **_link_files("max", *device.most),
    }
    if device.boot_vga is not None:
        lines["boot_vga"] = str(int(device.boot_vga))
    return {name: line + "\n" for name, line in lines.items()}


def _link_files(which: str, generation: int | None, width: int | None) -> dict[str, str]:
    files = {}
    if generation is not None:
        files[f"{which}_link_speed"] = _SPEEDS[generation]
    if width is not None:
        files[f"{which}_link_width"] = str(width)
    return files


def _modalias(device: _Device) -> str:
    vendor, number = device.subsystem
    kind = device.device_class
    return (
        f"pci:v{device.vendor:08X}d{device.device:08X}sv{vendor:08X}sd{number:08X}"
        f"bc{kind >> 16:02X}sc{kind >> 8 & 255:02X}i{kind & 255:02X}"
    )


def _uevent(device: _Device) -> str:
    vendor, number = device.subsystem
    lines = [f"DRIVER={device.driver}"] if device.driver else []
    lines += [
        f"PCI_CLASS={device.device_class:X}",
        f"PCI_ID={device.vendor:04X}:{device.device:04X}",
        f"PCI_SUBSYS_ID={vendor:04X}:{number:04X}",
        f"PCI_SLOT_NAME={device.bdf}",
        f"MODALIAS={_modalias(device)}",
    ]
    return "\n".join(lines)


def _config(device: _Device) -> bytes:
    """The configuration space that lspci reads: ids, class, and a PCI Express capability.

    A card that fell off the bus reads as all ones.
    """
    if device.lost:
        return b"\xff" * _CONFIG_BYTES
    space = bytearray(_CONFIG_BYTES)
    kind, bridge = device.device_class, device.secondary_bus
    struct.pack_into("<HHHH", space, 0, device.vendor, device.device, 0x0406, 0x0010)
    struct.pack_into("<BBBB", space, 8, 0xA1, kind & 255, kind >> 8 & 255, kind >> 16)
    space[0x0E] = 0 if bridge is None else 1
    if bridge is None:
        struct.pack_into("<HH", space, 0x2C, *device.subsystem)
    else:
        space[0x18:0x1B] = bytes([0, bridge, bridge])
    space[0x34], space[0x3C], space[0x3D] = _CAPABILITY_AT, 11, 1
    _express_capability(space, device)
    return bytes(space)


def _express_capability(space: bytearray, device: _Device) -> None:
    at = _CAPABILITY_AT
    port_type = 0 if device.secondary_bus is None else 4
    now, most = ([value or 1 for value in pair] for pair in (device.now, device.most))
    space[at] = 0x10
    struct.pack_into("<H", space, at + 0x02, 2 | port_type << 4)
    struct.pack_into("<I", space, at + 0x0C, most[0] | most[1] << 4)
    struct.pack_into("<H", space, at + 0x12, now[0] | now[1] << 4)
    struct.pack_into("<I", space, at + 0x2C, ((1 << most[0]) - 1) << 1)
    struct.pack_into("<H", space, at + 0x30, most[0])


def _write_link(target: Path, to: str) -> None:
    if target.is_symlink() and os.readlink(target) == to:
        return
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(to)
    beside.replace(target)


def _write_file(target: Path, content: bytes) -> None:
    if target.is_file() and target.read_bytes() == content:
        return
    beside = target.with_name(f".{target.name}.new")
    beside.write_bytes(content)
    beside.replace(target)


def _remove_others(folder: Path, wanted: set[str], kept: Collection[str]) -> None:
    ancestors = {parent.as_posix() for path in (*wanted, *kept) for parent in Path(path).parents}
    folders = ancestors | set(kept)
    for parent, subfolders, names in os.walk(folder):
        for name in [*names, *subfolders]:
            path = Path(parent, name)
            inside = path.relative_to(folder).as_posix()
            if path.is_dir() and not path.is_symlink():
                if inside not in folders:
                    shutil.rmtree(path)
            elif inside not in wanted:
                path.unlink()
