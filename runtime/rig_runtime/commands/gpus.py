"""`rig-runtime gpus`: the cards of this rig. `--json` is the snapshot that `--rig` reads."""

from __future__ import annotations

import argparse

from rig_runtime.cli import add_common_arguments
from rig_runtime.commands.inputs import rig_of
from rig_runtime.gpus import Gpu, Rig, snapshot, usable
from rig_runtime.units import size

NO_CARDS = (
    "No NVIDIA card is visible to the driver: 'lspci -d 10de:' shows what is plugged in, "
    "'rig-runtime gpus --rig FILE' looks at another rig."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser, rig=True)


def run(arguments: argparse.Namespace) -> int:
    rig = rig_of(arguments)
    if arguments.json:
        from rig_runtime.commands.as_json import print_json

        print_json(snapshot(rig))
    else:
        _show(rig)
    return 0


def _show(rig: Rig) -> None:
    from rig_runtime.commands.console import console, gib_of, table

    out = console()
    if not rig.gpus:
        out.print(NO_CARDS)
        return
    rows = [
        (
            _short(gpu),
            gpu.bus_id.removeprefix("0000:"),
            gib_of(gpu.memory_total_bytes),
            gib_of(usable(gpu).held_bytes if gpu.memory_total_bytes else None),
            gib_of(usable(gpu).usable_bytes),
            _link(gpu),
            "?" if gpu.power_limit_watts is None else f"{gpu.power_limit_watts:.0f}",
        )
        for gpu in rig.gpus
    ]
    out.print(f"driver {rig.driver_version or 'unknown'}; sizes in GiB")
    columns = ("card", "bus", "total", "held", "usable", "link", "watts")
    out.print(table(columns, rows, right=("total", "held", "usable", "watts")))
    for line in _remarks(rig):
        out.print(line)


def _short(gpu: Gpu) -> str:
    return gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ")


def _link(gpu: Gpu) -> str:
    """The slot as it is wired, and what the card could do where that is more."""
    width = "x?" if gpu.pcie_width_current is None else f"x{gpu.pcie_width_current}"
    wired = f"gen{gpu.pcie_gen_max or '?'} {width}"
    most = gpu.pcie_width_max
    if most and gpu.pcie_width_current and gpu.pcie_width_current < most:
        return f"{wired} of x{most}"
    return wired


def _remarks(rig: Rig) -> list[str]:
    """Who holds memory, and what is wrong with a card."""
    lines = []
    for gpu in rig.gpus:
        if gpu.unavailable:
            lines.append(f"{_short(gpu)} at {gpu.bus_id}: {gpu.unavailable}")
        for process in gpu.processes:
            held = "an unknown amount" if process.used_bytes is None else size(process.used_bytes)
            name = process.name or "a process"
            lines.append(f"{_short(gpu)}: {name} (pid {process.pid}) holds {held}")
        if gpu.display_active:
            lines.append(f"{_short(gpu)}: drives a display")
    return lines
