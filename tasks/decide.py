"""Decide before touching: one host's facts and wishes become what every task will do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from pyinfra import config, host
from pyinfra.facts.server import User

from tasks import wheelhouse
from tasks.driver_choice import DriverChoice, choose_driver
from tasks.engine_choice import build_problems, choose_build, python_of
from tasks.environments import TOOLS
from tasks.facts import (
    CardMemory,
    DisplayDevice,
    DisplayDevices,
    Driver,
    DriverState,
    Environments,
    EnvironmentState,
    Host,
    HostState,
    LeftoverFiles,
    Leftovers,
)
from tasks.generations import card_name, nvidia_cards
from tasks.installation import Installation, install_plan
from tasks.keys import key_folder
from tasks.locks import RUNTIME_LOCK, UV_LOCK, vllm_lock
from tasks.operations import require
from tasks.package_source import Unreachable
from tasks.preflight import (
    GIB,
    disk_problems,
    host_problems,
    leftover_problems,
    model_problems,
    reachability_problems,
    secure_boot_problems,
)
from tasks.problems import Problem
from tasks.sources import DriverSource, source_for
from tasks.wishes import VllmBuild, Wishes, read_wishes

# Measured on Debian 12: compiler, headers, DKMS, driver libraries and the built module.
DRIVER_DISK_BYTES = 2 * GIB
# Measured: the environment and, while it is made, the downloads; CUDA's libraries are most of it.
VLLM_DISK_BYTES: dict[VllmBuild, int] = {"cpu": 4 * GIB, "cuda": 20 * GIB}


class Facts(TypedDict):
    """What was read of one host before anything was decided."""

    machine: HostState
    driver: DriverState
    devices: list[DisplayDevice]
    leftovers: Leftovers
    environments: dict[str, EnvironmentState]
    card_memory: dict[str, int]


@dataclass(frozen=True)
class Decision:
    """What will be done to one host. With problems nothing is: the first operation says them."""

    wishes: Wishes
    source: DriverSource | None = None
    choice: DriverChoice | None = None
    installation: Installation | None = None
    memory_before: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def service_digest(self) -> str | None:
        """What the service must run from; None where there is no service."""
        has_service = self.installation is not None and self.installation.vllm is not None
        return self.installation.digest if self.installation and has_service else None


def become_root() -> None:
    """Use sudo unless we are root already: a minimal system may have no sudo."""
    config.SUDO = host.get_fact(User) != "root"


def decide() -> Decision:
    """Read the facts, decide, and stop this host before its first change if anything is wrong."""
    wishes = read_wishes({key: host.data.get(key) for key in Wishes.model_fields})
    if isinstance(wishes, list):
        decision = Decision(wishes=Wishes(), problems=wishes)
    else:
        decision = _decision(wishes, _facts())
    require(name="Nothing stands in the way", problems=decision.problems)
    return decision


def _facts() -> Facts:
    return {
        "machine": host.get_fact(Host),
        "driver": host.get_fact(Driver),
        "devices": host.get_fact(DisplayDevices),
        "leftovers": host.get_fact(LeftoverFiles),
        "environments": host.get_fact(Environments, names=[TOOLS, "vllm", "runtime"]),
        "card_memory": host.get_fact(CardMemory),
    }


def _decision(wishes: Wishes, facts: Facts) -> Decision:
    problems = [
        *host_problems(facts["machine"]),
        *leftover_problems(facts["leftovers"]),
        *model_problems(wishes),
    ]
    source, choice = _driver(facts, wishes, problems)
    if choice:
        problems += secure_boot_problems(facts["machine"], facts["driver"])
    build = choose_build(wishes, facts["devices"])
    problems += build_problems(build, facts["machine"], facts["devices"], choice)
    _announce(facts, choice, build)
    if problems:
        return Decision(wishes=wishes, problems=problems)
    folder = key_folder(
        host.name, host.data.get("ssh_known_hosts_file") if wishes.virtual else None
    )
    installation = install_plan(wishes, build, python_of(facts["machine"]), folder)
    if isinstance(installation, list):
        return Decision(wishes=wishes, problems=installation)
    problems = _download_problems(facts, wishes, source if choice else None, build, installation)
    return Decision(wishes, source, choice, installation, facts["card_memory"], problems)


def _driver(
    facts: Facts, wishes: Wishes, problems: list[Problem]
) -> tuple[DriverSource | None, DriverChoice | None]:
    """Source and choice; what stands in the way is added to `problems`."""
    source = source_for(facts["machine"], wishes.source())
    if isinstance(source, Problem):
        problems.append(source)
        return None, None
    choice = choose_driver(facts["devices"], source.branch, wishes.driver_flavour)
    if isinstance(choice, list):
        problems += choice
        return source, None
    return source, choice


def _download_problems(
    facts: Facts,
    wishes: Wishes,
    source: DriverSource | None,
    build: VllmBuild | None,
    installation: Installation,
) -> list[Problem]:
    """Disk and network, asked for only where something is still to be downloaded."""
    needed: dict[str, int] = {}
    addresses: list[str] = []
    if source and not facts["driver"]["boot_module_version"]:
        needed["/var"] = DRIVER_DISK_BYTES
        addresses.append(source.probe_address)
    missing = [
        environment
        for environment in installation.environments
        if environment.digest not in facts["environments"][environment.name]["complete"]
    ]
    if build and installation.vllm in missing:
        needed["/opt"] = VLLM_DISK_BYTES[build]
    if missing and wishes.mirror_url:
        addresses.append(f"{wishes.mirror_url.rstrip('/')}/wheels/")
        if wishes.virtual and (problem := _fill_mirror(build, python_of(facts["machine"]))):
            return [problem]
    return [
        *disk_problems(facts["machine"], needed),
        *reachability_problems(
            host.get_fact(Unreachable, addresses=addresses) if addresses else []
        ),
    ]


def _fill_mirror(build: VllmBuild | None, python: str | None) -> Problem | None:
    host.log("wheels for the rig's mirror: downloaded here, once (a minute or more)")
    files = [UV_LOCK, RUNTIME_LOCK, *([vllm_lock(build, python)] if build and python else [])]
    return wheelhouse.fill([(path, python or "3.11") for path in files])


def _announce(facts: Facts, choice: DriverChoice | None, build: VllmBuild | None) -> None:
    """Say what was decided while pyinfra prepares: a dry run shows it too."""
    machine = facts["machine"]
    host.log(f"{machine['distribution']} {machine['version']}, boots {machine['boot_kernel']}")
    for card in nvidia_cards(facts["devices"]):
        width = f", x{card['link_width']}" if card["link_width"] else ""
        host.log(f"{card_name(card)}: driven by {card['driver'] or 'nothing'}{width}")
    if choice:
        host.log(f"driver {choice.branch} with the {choice.flavour} kernel modules")
        for unknown in choice.unknown:
            host.log(f"the {unknown} is newer than our table: nothing is known against it")
    host.log(f"vLLM: {f'{build} build' if build else 'not installed'}")
