"""Pure: the driver branch and the kernel module's flavour that suit all cards of a host."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.facts import DisplayDevice
from tasks.generations import Flavour, Generation, card_name, generation, nvidia_cards
from tasks.problems import Problem

FLAVOURS: tuple[Flavour, ...] = ("open", "proprietary")
# Where both run, open from this branch on: what NVIDIA recommends since. Before it the open modules
# treat GeForce cards as unsupported.
OPEN_PREFERRED_FROM_BRANCH = 560
# From this branch on the proprietary kernel modules are no longer offered.
OPEN_ONLY_FROM_BRANCH = 595


@dataclass(frozen=True)
class DriverChoice:
    """One driver for all cards. `unknown` are cards that the generation table lacks."""

    branch: int
    flavour: Flavour
    unknown: tuple[str, ...] = ()


def choose_driver(
    devices: list[DisplayDevice], branch: int, wanted: Flavour | None = None
) -> DriverChoice | list[Problem] | None:
    """The choice for a host's cards at the source's branch; problems name the cards.

    None without NVIDIA cards: there is nothing to drive. `wanted` is the inventory's flavour.
    """
    cards = nvidia_cards(devices)
    if not cards:
        return None
    known = [(card, row) for card in cards if (row := generation(card["device"])) is not None]
    problems = [problem for card, row in known if (problem := _branch_problem(card, row, branch))]
    problems += _flavour_problems(known, branch, wanted)
    if problems:
        return problems
    legal = _flavours(known, branch)
    return DriverChoice(
        branch=branch,
        flavour=wanted or _preferred(legal, branch),
        unknown=tuple(card_name(card) for card in cards if generation(card["device"]) is None),
    )


def _preferred(legal: list[Flavour], branch: int) -> Flavour:
    best: Flavour = "open" if branch >= OPEN_PREFERRED_FROM_BRANCH else "proprietary"
    return best if best in legal else legal[0]


def _branch_problem(card: DisplayDevice, row: Generation, branch: int) -> Problem | None:
    first, last = row.first_branch, row.last_branch
    if last is not None and branch > last:
        return Problem(
            f"driver {branch} must know the {card_name(card)}",
            found=f"{last} is the last branch for {row.name}",
            works=f"branch {last}, or the card left out of the machine",
            how=f'set "branch": {last} in driver_source if your source has it, or remove the card',
        )
    if first is not None and branch < first:
        return Problem(
            f"driver {branch} must know the {card_name(card)}",
            found=f"{row.name} needs at least {first}",
            works=f"a source with branch {first} or newer",
            how='set driver_source = {"kind": "nvidia"} in inventory.py',
        )
    return None


def _flavours(known: list[tuple[DisplayDevice, Generation]], branch: int) -> list[Flavour]:
    """The flavours that every known card and the branch allow, in order of preference."""
    rows = [row for _, row in known]
    return [
        flavour
        for flavour in FLAVOURS
        if all(flavour in row.flavours for row in rows)
        and (flavour == "open" or branch < OPEN_ONLY_FROM_BRANCH)
    ]


def _flavour_problems(
    known: list[tuple[DisplayDevice, Generation]], branch: int, wanted: Flavour | None
) -> list[Problem]:
    legal = _flavours(known, branch)
    if not legal:
        return [_impossible_mix(known, branch)]
    if wanted is None or wanted in legal:
        return []
    against = next(
        (card_name(card) for card, row in known if wanted not in row.flavours), f"branch {branch}"
    )
    return [
        Problem(
            f"the {wanted} kernel modules must run every card",
            found=f"they do not run the {against}",
            works=f"the {legal[0]} ones",
            how=f'set driver_flavour = "{legal[0]}" in inventory.py, or None to let it be chosen',
        )
    ]


def _impossible_mix(known: list[tuple[DisplayDevice, Generation]], branch: int) -> Problem:
    old = next((card_name(card) for card, row in known if "open" not in row.flavours), None)
    new = next((card_name(card) for card, row in known if "proprietary" not in row.flavours), None)
    return Problem(
        "one kernel module must run all cards of the host",
        found=f"the {old} needs the proprietary one, the {new or f'branch {branch}'} the open one",
        works="either card alone",
        how="take one of the two out of the machine, or put it into another",
    )
