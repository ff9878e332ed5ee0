"""Decide before touching: one host's facts and wishes become what every task will do."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyinfra import config, host
from pyinfra.facts.server import User

from tasks.driver_choice import DriverChoice, choose_driver
from tasks.facts import (
    DisplayDevice,
    DisplayDevices,
    Driver,
    DriverState,
    Host,
    HostState,
    LeftoverFiles,
)
from tasks.generations import card_name, nvidia_cards
from tasks.operations import require
from tasks.package_source import Unreachable
from tasks.preflight import (
    GIB,
    disk_problems,
    host_problems,
    leftover_problems,
    reachability_problems,
    secure_boot_problems,
)
from tasks.problems import Problem
from tasks.sources import DriverSource, source_for
from tasks.wishes import Wishes, read_wishes

# Measured on Debian 12: compiler, headers, DKMS, driver libraries and the built module.
DRIVER_DISK_BYTES = 2 * GIB


@dataclass(frozen=True)
class Decision:
    """What will be done to one host. With problems nothing is: the first operation says them."""

    wishes: Wishes
    source: DriverSource | None = None
    choice: DriverChoice | None = None
    problems: list[Problem] = field(default_factory=list)


def become_root() -> None:
    """Use sudo unless we are root already: a minimal system may have no sudo."""
    config.SUDO = host.get_fact(User) != "root"


def decide() -> Decision:
    """Read the facts, decide, and stop this host before its first change if anything is wrong."""
    wishes = read_wishes({key: host.data.get(key) for key in Wishes.model_fields})
    if isinstance(wishes, list):
        decision = Decision(wishes=Wishes(), problems=wishes)
    else:
        decision = _driver_decision(wishes)
    require(name="Nothing stands in the way", problems=decision.problems)
    return decision


def _driver_decision(wishes: Wishes) -> Decision:
    machine, driver = host.get_fact(Host), host.get_fact(Driver)
    devices = host.get_fact(DisplayDevices)
    problems = [
        *host_problems(machine),
        *leftover_problems(host.get_fact(LeftoverFiles)),
    ]
    source, choice = _driver(machine, devices, wishes, problems)
    if choice:
        problems += secure_boot_problems(machine, driver)
        _announce(machine, devices, choice)
    problems += _download_problems(machine, driver, source if choice else None)
    if problems:
        return Decision(wishes=wishes, problems=problems)
    return Decision(wishes=wishes, source=source, choice=choice)


def _driver(
    machine: HostState, devices: list[DisplayDevice], wishes: Wishes, problems: list[Problem]
) -> tuple[DriverSource | None, DriverChoice | None]:
    """Source and choice; what stands in the way is added to `problems`."""
    source = source_for(machine, wishes.source())
    if isinstance(source, Problem):
        problems.append(source)
        return None, None
    choice = choose_driver(devices, source.branch, wishes.driver_flavour)
    if isinstance(choice, list):
        problems += choice
        return source, None
    return source, choice


def _download_problems(
    machine: HostState, driver: DriverState, source: DriverSource | None
) -> list[Problem]:
    """Disk and network, asked for only where something is still to be downloaded."""
    if source is None or driver["boot_module_version"]:
        return []
    addresses = [source.key_address or f"{source.address}dists/{source.row.suites[0]}/Release"]
    return [
        *disk_problems(machine, {"/var": DRIVER_DISK_BYTES}),
        *reachability_problems(host.get_fact(Unreachable, addresses=addresses)),
    ]


def _announce(machine: HostState, devices: list[DisplayDevice], choice: DriverChoice) -> None:
    """Say what was decided while pyinfra prepares: a dry run shows it too."""
    host.log(f"{machine['distribution']} {machine['version']}, boots {machine['boot_kernel']}")
    for card in nvidia_cards(devices):
        width = f", x{card['link_width']}" if card["link_width"] else ""
        host.log(f"{card_name(card)}: driven by {card['driver'] or 'nothing'}{width}")
    host.log(f"driver {choice.branch} with the {choice.flavour} kernel modules")
    for unknown in choice.unknown:
        host.log(f"the {unknown} is newer than our table: nothing is known against it")
