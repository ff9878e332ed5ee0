"""Where driver packages come from: a row for each distribution and kind."""

from __future__ import annotations

import pytest

from tasks.package_source import packages_missing, packages_of_other_branches
from tasks.problems import Problem
from tasks.sources import ROWS, DriverSource, source_for
from tasks.templates import render
from tasks.wishes import DriverSourceWish, Wishes
from tests.tasks.cases import machine

MIRROR = "http://10.0.0.1:8077/"


def _wish(kind: str, branch: int | None = None) -> DriverSourceWish:
    address = MIRROR if kind == "mirror" else None
    return DriverSourceWish.model_validate({"kind": kind, "address": address, "branch": branch})


@pytest.mark.parametrize(("distribution", "version", "kind"), sorted(ROWS))
def test_every_row_gives_a_source(distribution: str, version: str, kind: str) -> None:
    host = machine(distribution=distribution, version=version)
    source = source_for(host, _wish(kind))
    assert isinstance(source, DriverSource)
    assert "{" not in "".join(repository.address for repository in source.repositories)
    assert "{" not in source.probe_address
    assert all("dkms" in " ".join(source.packages(f)) for f in ("open", "proprietary"))


BRANCHES = [("nvidia", None, 580), ("nvidia", 595, 595), ("mirror", None, 580)]


@pytest.mark.parametrize(("kind", "wanted", "branch"), BRANCHES)
def test_branch(kind: str, wanted: int | None, branch: int) -> None:
    source = source_for(machine(), _wish(kind, wanted))
    assert isinstance(source, DriverSource)
    assert source.branch == branch
    assert source.pin_packages() == [f"nvidia-driver-pinning-{branch}"]


@pytest.mark.parametrize(("version", "branch"), [("12", 535), ("13", 550)])
def test_a_distribution_has_one_branch(version: str, branch: int) -> None:
    source = source_for(machine(version=version), _wish("distribution", 580))
    assert isinstance(source, DriverSource)
    assert source.branch == branch


def test_debian_13_takes_the_repository_with_the_key_that_it_accepts() -> None:
    source = source_for(machine(version="13"), _wish("nvidia"))
    assert isinstance(source, DriverSource)
    assert source.key_address is not None
    assert source.key_address.endswith("debian13/x86_64/8793F200.pub")


@pytest.mark.parametrize("version", ["11", "14"])
def test_an_unknown_distribution_is_refused(version: str) -> None:
    problem = source_for(machine(version=version), _wish("nvidia"))
    assert isinstance(problem, Problem)
    assert "debian 12, debian 13" in str(problem)


def test_a_mirror_needs_an_address() -> None:
    assert isinstance(source_for(machine(), DriverSourceWish(kind="mirror")), Problem)


@pytest.mark.parametrize(
    ("wishes", "kind"),
    [
        (Wishes(), "nvidia"),
        (Wishes(mirror_url=MIRROR), "mirror"),
        (Wishes(mirror_url=MIRROR, driver_source=_wish("distribution")), "distribution"),
    ],
)
def test_what_is_not_named_is_the_mirror_if_there_is_one(wishes: Wishes, kind: str) -> None:
    assert wishes.source().kind == kind


def test_sources_file_has_a_stanza_for_each_repository() -> None:
    source = source_for(machine(), _wish("distribution"))
    stanzas = render("driver.sources", source=source).split("\n\n")
    assert [stanza.count("URIs:") for stanza in stanzas] == [1, 1]
    assert "bookworm-security" in stanzas[1]


def test_a_flat_repository_has_no_components() -> None:
    text = render("driver.sources", source=source_for(machine(), _wish("mirror")))
    assert "URIs: http://10.0.0.1:8077/apt/\nSuites: /\nSigned-By: " in text


INSTALLED = {
    "nvidia-kernel-dkms": "535.261.03-1~deb12u1",
    "nvidia-smi": "535.261.03-1~deb12u1",
    "glx-alternative-nvidia": "1.2.2",
    "nvidia-kernel-common": "20220217+3~deb12u1",
}


def test_packages_of_another_branch_must_leave() -> None:
    assert packages_of_other_branches(INSTALLED, 580) == ["nvidia-kernel-dkms", "nvidia-smi"]
    assert packages_of_other_branches(INSTALLED, 535) == []


def test_what_is_missing_or_of_another_branch_is_installed() -> None:
    wanted = ["nvidia-kernel-dkms", "nvidia-driver-cuda"]
    assert packages_missing(wanted, INSTALLED, 580) == wanted
    assert packages_missing(wanted, INSTALLED, 535) == ["nvidia-driver-cuda"]
