"""Assert that the rig is as it should be, and say what was found."""

from __future__ import annotations

import json
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, QuoteString, StringCommand, deploy, operation

from tasks.commands import Commands, failure, say
from tasks.driver_choice import DriverChoice
from tasks.facts import Display, DisplayDevices, Driver
from tasks.findings import (
    card_problems,
    card_reports,
    display_problems,
    driver_problems,
    plan_changes,
    plan_summary,
)
from tasks.headless import HEADLESS_TARGET
from tasks.problems import Problem
from tasks.service_facts import UNIT, Gpus, Health, Service, Status

LAST_PLAN = "/opt/rig/last-plan.json"


class LastPlan(FactBase[dict[str, Any]]):
    """The plans that the last run found; {} before the first."""

    @staticmethod
    def default() -> dict[str, Any]:
        return {}

    def command(self) -> str:
        return f"cat {LAST_PLAN} 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, Any]:
        try:
            found = json.loads("\n".join(output))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@deploy("Verify")
def verify(
    choice: DriverChoice | None,
    headless: bool,
    memory_before: dict[str, int],
    service_digest: str | None,
) -> None:
    """Driver, cards and display; then the service and its plans, where there is an engine."""
    if choice is not None:
        cards_verified(
            name="The driver runs every card", headless=headless, memory_before=memory_before
        )
    if service_digest is not None:
        service_verified(name="The service answers", digest=service_digest)
        plans_told(name="What the plans change")


@operation()
def cards_verified(headless: bool, memory_before: dict[str, int]) -> Commands:
    """Loaded is on disk, NVML shows what is on the bus, nothing draws on a headless rig.

    `memory_before` is what was in use on each card before this run, by bus id.
    """
    driver, cards, display = host.get_fact(Driver), host.get_fact(Gpus), host.get_fact(Display)
    problems = [
        *driver_problems(driver),
        *card_problems(host.get_fact(DisplayDevices), cards),
        *(display_problems(display, cards, HEADLESS_TARGET) if headless else ()),
    ]
    if problems:
        yield failure(*problems)
        return
    say(f"driver {driver['loaded_version']} is loaded")
    for report in card_reports(cards, memory_before):
        say(str(report))


@operation()
def service_verified(digest: str) -> Commands:
    """Active, enabled, started from what is installed, and its gateway answers."""
    state, status = host.get_fact(Service), host.get_fact(Status)
    address = str(status["address"]).replace("//0.0.0.0", "//127.0.0.1") if status else None
    answers = address is not None and host.get_fact(Health, address=address)
    wrong = [
        text
        for text, is_right in (
            ("it is not active", state["active"]),
            ("it is not enabled", state["enabled"]),
            ("it runs from an older installation", state["running_digest"] == digest),
            (f"its gateway does not answer on {address}", answers),
            *((f"{model['name']}: {model['reason']}", False) for model in _failed(status)),
        )
        if not is_right
    ]
    if wrong:
        yield failure(
            Problem(
                f"{UNIT} must serve",
                found="; ".join(wrong),
                how=f"`journalctl -u {UNIT} -n 50` on the rig says why",
            )
        )
        return
    say(f"the gateway answers on {address}")


def _failed(status: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The models that were given up; one that is still loading is not among them."""
    return [model for model in (status or {}).get("models", []) if model["phase"] == "failed"]


@operation()
def plans_told() -> Commands:
    """Say what the running plans change against the last run's, and keep them for the next."""
    status = host.get_fact(Status)
    before, after = host.get_fact(LastPlan), plan_summary(status)
    if before == after:
        host.noop("the plans are those of the last run")
        return
    for change in plan_changes(before, after):
        say(change)
    for model in (status or {}).get("models", []):
        if not model.get("plan"):
            say(f"{model['name']} has no plan: {model.get('reason') or model['phase']}")
    text = json.dumps(after, indent=1, sort_keys=True)
    yield StringCommand(
        "printf '%s\\n'",
        QuoteString(text),
        ">",
        f"{LAST_PLAN}.part",
        "&& mv",
        f"{LAST_PLAN}.part",
        LAST_PLAN,
    )
