"""Pure: is the rig as it should be, and what does the new plan change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.facts import DisplayDevice, DisplayState, DriverState
from tasks.generations import card_name, nvidia_cards
from tasks.problems import Problem
from tasks.service_facts import Cards

MIB = 1 << 20


@dataclass(frozen=True)
class CardReport:
    """One card for the report; None is unknown."""

    bus_id: str
    name: str
    used_bytes: int | None
    display_active: bool | None
    used_before_bytes: int | None = None

    @property
    def freed_bytes(self) -> int:
        """What this run freed; 0 where either figure is unknown or more is in use now."""
        if self.used_bytes is None or self.used_before_bytes is None:
            return 0
        return max(0, self.used_before_bytes - self.used_bytes)

    def __str__(self) -> str:
        used = "unknown" if self.used_bytes is None else f"{self.used_bytes / MIB:.0f} MiB"
        freed = f", {self.freed_bytes / MIB:.0f} MiB freed" if self.freed_bytes else ""
        display = ", drives a display" if self.display_active else ""
        return f"{self.bus_id} {self.name}: {used} in use{freed}{display}"


def card_reports(cards: Cards, before: Mapping[str, int] | None = None) -> list[CardReport]:
    """The cards that NVML shows, in order of place; `before` is bytes in use by bus id."""
    reports = [
        CardReport(
            bus_id=str(gpu["bus_id"]),
            name=str(gpu.get("name") or "card"),
            used_bytes=gpu.get("memory_used_bytes"),
            display_active=gpu.get("display_active"),
            used_before_bytes=(before or {}).get(str(gpu["bus_id"]).lower()),
        )
        for gpu in cards["gpus"] or ()
    ]
    return sorted(reports, key=lambda report: report.bus_id)


def driver_problems(driver: DriverState) -> list[Problem]:
    """Loaded must equal on disk, or the next program that opens the library fails."""
    loaded, on_disk = driver["loaded_version"], driver["boot_module_version"]
    if loaded is not None and loaded == on_disk:
        return []
    return [
        Problem(
            "the driver that is loaded must be the one on disk",
            found=f"{loaded or 'none'} is loaded, {on_disk or 'none'} is on disk",
            works="a reboot, if the module was built",
            how="run this again; `dkms status` and `journalctl -k -g NVRM` on the rig say why",
        )
    ]


def card_problems(devices: list[DisplayDevice], cards: Cards) -> list[Problem]:
    """Every card on the bus must answer through NVML."""
    on_bus = nvidia_cards(devices)
    if cards["gpus"] is None:
        return [
            Problem(
                "NVML must show the cards",
                found="`rig-runtime gpus` fails",
                how="run it on the rig: it says why",
            )
        ]
    shown = {str(gpu["bus_id"]).lower() for gpu in cards["gpus"]}
    missing = [card_name(card) for card in on_bus if card["bus_id"] not in shown]
    if not missing:
        return []
    return [
        Problem(
            "NVML must show every card that is on the bus",
            found=f"missing: {', '.join(missing)}",
            works="the card's power cable, riser and slot checked",
            how="`journalctl -k -g NVRM` on the rig says what the driver met",
        )
    ]


def display_problems(display: DisplayState, cards: Cards, target: str) -> list[Problem]:
    """On a headless rig nothing draws."""
    problems = []
    if display["default_target"] != target:
        problems.append(
            Problem(
                f"the rig must boot to {target}", found=f"it boots to {display['default_target']}"
            )
        )
    drawing = [str(report) for report in card_reports(cards) if report.display_active]
    if drawing:
        problems.append(
            Problem(
                "no card may drive a display",
                found="; ".join(drawing),
                works="the monitor on another card's or the board's output, and this run again",
                how='set "headless": False in inventory.py to keep a desktop',
            )
        )
    return problems


def plan_summary(status: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """What matters of the running plans, by model: nothing that changes from hour to hour."""
    return {
        str(model["name"]): _summary(model["plan"])
        for model in (status or {}).get("models", [])
        if model.get("plan")
    }


def _summary(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "engine": plan.get("engine"),
        "split": plan.get("split"),
        "tensor_parallel_size": plan.get("tensor_parallel_size"),
        "context_tokens": plan.get("context_tokens"),
        "cards": {
            card["uuid"]: {"name": card["name"], "verdict": card["verdict"]}
            for card in plan.get("cards", [])
        },
    }


def plan_changes(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What the new plans change, one sentence each; empty where nothing does."""
    lines = [f"{name}: no longer planned" for name in sorted(before.keys() - after.keys())]
    for name in sorted(after):
        old, new = before.get(name), after[name]
        if old is None:
            lines.append(f"{name}: {_place(new)}")
        elif old != new:
            lines += [f"{name}: {change}" for change in _differences(old, new)]
    return lines


def _place(plan: Mapping[str, Any]) -> str:
    used = [card["name"] for card in plan["cards"].values() if card["verdict"] == "used"]
    where = " + ".join(used) or "no card"
    return f"{plan['engine']} on {where}, {plan['context_tokens']} tokens of context"


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = []
    for uuid in sorted(old["cards"].keys() | new["cards"].keys()):
        was, now = old["cards"].get(uuid), new["cards"].get(uuid)
        if was != now:
            name = (now or was)["name"]
            before = was["verdict"] if was else "not there"
            after = now["verdict"] if now else "gone"
            lines.append(f"{name} ({uuid}): {before} -> {after}")
    for key in ("engine", "split", "tensor_parallel_size", "context_tokens"):
        if old[key] != new[key]:
            lines.append(f"{key}: {old[key]} -> {new[key]}")
    return lines
