"""`deploy.py` on fresh boxes: verified, unchanged the second time, after kills and after swaps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import virtual_rig
from tests.e2e.deploys import ROOT, Target

RIGS = ROOT / "tests" / "runtime" / "data" / "rigs"

MakeTarget = Callable[..., Target]

pytestmark = [
    pytest.mark.box,
    pytest.mark.skipif(os.geteuid() != 0, reason="a virtual rig needs root"),
]


@pytest.fixture
def make_target(tmp_path: Path) -> Iterator[MakeTarget]:
    """Fresh boxes that are gone after the test."""
    names: list[str] = []

    def make(suite: str = "bookworm", cards: str = "reference", **options: object) -> Target:
        names.append(f"deploy-{os.getpid()}-{len(names)}")
        box = virtual_rig.up(names[-1], suite=suite, cards=RIGS / f"{cards}.json")
        return Target(box, tmp_path, **options)  # type: ignore[arg-type]

    yield make
    for name in names:
        virtual_rig.down(name)


KILLED_AT = (
    "Finish interrupted package installations",
    "Headers of the kernel that will boot",
    "kernel modules, headless",
    "Hold the driver at its version",
    "Module options into the initramfs",
    "Reboot if the driver asks for it",
    "Engines | vLLM",
    "Runtime | rig-runtime",
    "Its service",
    "What the plans change",
)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_killed_anywhere_it_converges_and_then_changes_nothing(make_target: MakeTarget) -> None:
    two_ranks = {"name": "tiny", "path": "/var/lib/rig-runtime/models/tiny", "tiny": True}
    target = make_target(user="rig", data={"models": [{**two_ranks, "tensor_parallel_size": 2}]})
    reached = [target.deploy_killed_at(operation) for operation in KILLED_AT]
    assert all(reached)

    whole = target.deploy()
    assert whole.returncode == 0, whole.last_words
    _is_as_it_should_be(target)

    second = target.deploy()
    assert (second.returncode, second.changed) == (0, []), second.last_words

    used = _used_cards(target)
    assert len(used) == 2
    target.cards("take-out", used[0])
    swapped = target.deploy()
    assert swapped.returncode == 0, swapped.last_words
    assert f"({used[0]}): used -> gone" in swapped.said
    assert set(swapped.changed) == {
        "Runtime | The service runs from all this",
        "Verify | What the plans change",
    }
    assert used[0] not in _used_cards(target)

    target.reboot()
    assert target.on_rig("systemctl is-active rig-runtime") == "active"
    last = target.deploy()
    assert (last.returncode, last.changed) == (0, []), last.last_words


def _is_as_it_should_be(target: Target) -> None:
    """Asked of the box itself, beside the deploy's own verify."""
    assert target.on_rig("systemctl get-default") == "multi-user.target"
    assert target.on_rig("cat /sys/module/nvidia/version") == "580.95.05"
    assert "installed" in target.on_rig("dkms status")
    assert target.on_rig("dpkg --audit") == ""
    assert "nvidia-driver-cuda" in target.on_rig("apt-mark showhold")
    assert target.on_rig("systemctl is-active rig-runtime") == "active"
    assert target.on_rig("stat -c '%U:%G %a' /etc/rig-runtime/api-keys") == "root:rig-runtime 640"
    gpus = json.loads(target.on_rig("rig-runtime gpus --json"))["gpus"]
    assert len(gpus) == len(json.loads((RIGS / "reference.json").read_text())["gpus"])


def _used_cards(target: Target) -> list[str]:
    (model,) = json.loads(target.on_rig("rig-runtime status --json"))["models"]
    return [card["uuid"] for card in model["plan"]["cards"] if card["verdict"] == "used"]


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_debian_13_with_a_desktop(make_target: MakeTarget) -> None:
    target = make_target("trixie", "reference-with-desktop", data={"vllm_build": "none"})
    assert target.on_rig("systemctl get-default") == "graphical.target"

    first = target.deploy()
    assert first.returncode == 0, first.last_words
    assert target.on_rig("systemctl get-default") == "multi-user.target"
    gpus = json.loads(target.on_rig("rig-runtime gpus --json"))["gpus"]
    assert [gpu["display_active"] for gpu in gpus] == [False] * len(gpus)

    second = target.deploy()
    assert (second.returncode, second.changed) == (0, []), second.last_words


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_debians_own_driver_then_another_branch(make_target: MakeTarget) -> None:
    """A real DKMS build of NVIDIA's 535, then the mirror's 580 in its place."""
    target = make_target(data={"vllm_build": "none"})
    own = target.deploy(driver_source={"kind": "distribution"})
    assert own.returncode == 0, own.last_words
    assert target.on_rig("cat /sys/module/nvidia/version").startswith("535.")

    other = target.deploy()
    assert other.returncode == 0, other.last_words
    assert target.on_rig("cat /sys/module/nvidia/version") == "580.95.05"
    assert target.on_rig("dpkg-query -W -f '${Version}\\n' '*nvidia*' | grep -c ^535") == "0"
