"""Pure: which build of vLLM a host gets, and what it must find there."""

from __future__ import annotations

from tasks.driver_choice import DriverChoice
from tasks.facts import DisplayDevice, HostState
from tasks.generations import card_name, generation, nvidia_cards
from tasks.locks import PYTHONS, vllm_lock, vllm_locks
from tasks.problems import Problem
from tasks.wishes import VllmBuild, Wishes

# CUDA 13, which the wheels bring, needs this driver branch and this compute capability.
CUDA_BRANCH = 580
CUDA_COMPUTE_CAPABILITY = (7, 5)


def choose_build(wishes: Wishes, devices: list[DisplayDevice]) -> VllmBuild | None:
    """The build that was asked for; else CUDA's where there are cards that are not made up."""
    if wishes.vllm_build == "none":
        return None
    if wishes.vllm_build is not None:
        return wishes.vllm_build
    return "cuda" if nvidia_cards(devices) and not wishes.virtual else "cpu"


def build_problems(
    build: VllmBuild | None,
    host: HostState,
    devices: list[DisplayDevice],
    choice: DriverChoice | None,
) -> list[Problem]:
    """What stands between this host and that build."""
    if build is None:
        return []
    return [
        *_lock_problems(build, host),
        *(_cuda_problems(devices, choice) if build == "cuda" else ()),
    ]


def python_of(host: HostState) -> str | None:
    """The Python that the distribution brings; None for one that has no row."""
    return PYTHONS.get((host["distribution"] or "", host["version"] or ""))


def _lock_problems(build: VllmBuild, host: HostState) -> list[Problem]:
    python = python_of(host)
    if python is None or vllm_lock(build, python).exists():
        return []  # a distribution without a row is the driver source's to refuse
    return [
        Problem(
            f"vLLM ({build}) must be locked for the rig's Python {python}",
            found=f"locked are: {', '.join(vllm_locks())}",
            works="another distribution, or no engine",
            how='set vllm_build = "none" in inventory.py to provision all but the engine',
        )
    ]


def _cuda_problems(devices: list[DisplayDevice], choice: DriverChoice | None) -> list[Problem]:
    cards = nvidia_cards(devices)
    able = [
        card
        for card in cards
        if (row := generation(card["device"])) is None
        or row.compute_capability >= CUDA_COMPUTE_CAPABILITY
    ]
    if not able:
        return [
            Problem(
                "vLLM's CUDA build must have a card of compute capability 7.5 (Turing) or newer",
                found=", ".join(card_name(card) for card in cards) or "there is no NVIDIA card",
                works="the CPU build",
                how='set vllm_build = "cpu" in inventory.py',
            )
        ]
    if choice is not None and choice.branch < CUDA_BRANCH:
        return [
            Problem(
                f"vLLM's CUDA build must have driver {CUDA_BRANCH} or newer",
                found=f"the package source has {choice.branch}",
                works='driver_source = {"kind": "nvidia"}, or the CPU build',
                how='set one of them, or vllm_build = "cpu", in inventory.py',
            )
        ]
    return []
