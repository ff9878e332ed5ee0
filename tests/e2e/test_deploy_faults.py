"""What can be wrong before the first change: one message, a non-zero exit, nothing changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtual_rig
from tests.e2e.deploys import ROOT, Outcome, Target

pytestmark = [
    pytest.mark.box,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="a virtual rig needs root"),
]


@pytest.fixture(scope="module")
def box() -> Iterator[virtual_rig.Box]:
    """A fresh box for all tests of this module: none of them may change it."""
    name = f"faults-{os.getpid()}"
    cards = ROOT / "tests" / "runtime" / "data" / "rigs" / "reference.json"
    yield virtual_rig.up(name, suite="bookworm", cards=cards)
    virtual_rig.down(name)


@pytest.fixture
def target(box: virtual_rig.Box, tmp_path: Path) -> Iterator[Target]:
    """The box before any change; a test that let one through fails here."""
    target = Target(box, tmp_path, data={"vllm_build": "none"})
    yield target
    assert target.on_rig("ls /etc/apt/apt.conf.d/90rig-lock 2>/dev/null") == ""


def _refused(outcome: Outcome, *words: str) -> None:
    assert outcome.returncode == 1, outcome.last_words
    assert [word for word in words if word not in outcome.said] == [], outcome.last_words
    assert "Traceback" not in outcome.said


def test_wrong_ssh_key(target: Target, tmp_path: Path) -> None:
    key = tmp_path / "wrong"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    _refused(target.deploy(ssh_key=str(key)), "Authentication error", str(key))


def test_a_host_that_no_name_server_knows(target: Target) -> None:
    _refused(target.deploy(ssh_hostname="no-such-rig.invalid"), "Could not resolve hostname")


def test_a_closed_port(target: Target) -> None:
    _refused(target.deploy(ssh_port=9), "Could not connect")


def test_an_unknown_option_of_the_runtime(target: Target) -> None:
    _refused(target.deploy(gateway={"prot": 8484}), "gateway.prot", "did you mean port?")


def test_wrong_data_is_told_at_once(target: Target) -> None:
    outcome = target.deploy(headless="yes", driver_flavour="closed", gateway=8484)
    _refused(outcome, "headless", "driver_flavour", "gateway", "1. ", "3. ")


def test_no_model(target: Target) -> None:
    _refused(target.deploy(models=[], vllm_build="cpu"), "must have a model to serve")


def test_a_mirror_that_does_not_answer(target: Target) -> None:
    outcome = target.deploy(driver_source={"kind": "mirror", "address": "http://10.77.0.9:1/"})
    _refused(outcome, "must reach http://10.77.0.9:1/apt/key.asc")


def test_no_network(target: Target) -> None:
    target.on_rig("mv /etc/resolv.conf /etc/resolv.conf.away; ip route del default")
    try:
        outcome = target.deploy(driver_source={"kind": "distribution"})
    finally:
        gateway = target.box.gateway_address
        target.on_rig(
            f"ip route add default via {gateway}; mv /etc/resolv.conf.away /etc/resolv.conf"
        )
    _refused(outcome, "must reach http://deb.debian.org/")


def test_a_full_disk(target: Target) -> None:
    target.on_rig(
        "mount -t tmpfs -o size=64m tmpfs /var/cache/apt && mount --bind /var/cache/apt /opt"
    )
    try:
        outcome = target.deploy(vllm_build="cpu")
    finally:
        target.on_rig("umount /opt /var/cache/apt")
    _refused(outcome, "4.0 GiB must be free for /opt", "0.1 GiB is")


def test_a_driver_that_does_not_exist_for_the_distribution(target: Target) -> None:
    outcome = target.deploy(vllm_build="cuda", driver_source={"kind": "distribution"})
    _refused(outcome, "must have driver 580 or newer", "535")
