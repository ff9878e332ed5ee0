"""What stands in the way is found before the first change, and all of it is told at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.preflight import (
    GIB,
    disk_problems,
    host_problems,
    leftover_problems,
    model_problems,
    reachability_problems,
    secure_boot_problems,
)
from tasks.problems import Problem, listing
from tasks.wishes import Wishes, read_wishes
from tests.tasks.cases import disks, driver, leftovers, machine


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"architecture": "arm64"}, ["amd64", "arm64"]),
        ({"architecture": None}, ["amd64", "unknown"]),
        ({"systemd": False}, ["systemd"]),
    ],
)
def test_host(changes: dict[str, Any], words: list[str]) -> None:
    text = listing(host_problems(machine(**changes)))
    assert bool(text) == bool(words)
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("secure_boot", "loaded", "is_problem"),
    [(True, None, True), (True, "580.95.05", False), (False, None, False), (None, None, False)],
)
def test_secure_boot(secure_boot: bool | None, loaded: str | None, is_problem: bool) -> None:
    problems = secure_boot_problems(machine(secure_boot=secure_boot), driver(loaded_version=loaded))
    assert bool(problems) is is_problem


def test_a_run_file_is_refused_with_the_command_that_removes_it() -> None:
    assert leftover_problems(leftovers()) == []
    (problem,) = leftover_problems(leftovers(runfile=["/usr/bin/nvidia-uninstall"]))
    assert "nvidia-uninstall --silent" in str(problem)


DISKS = [
    ({"/var": 9, "/opt": 9}, {"/var": 2, "/opt": 4}, None),
    ({"/var": 5, "/opt": 5}, {"/var": 2, "/opt": 4}, "6.0 GiB must be free for /var and /opt"),
    ({"/opt": 3}, {"/opt": 4}, "4.0 GiB must be free for /opt"),
    ({}, {"/opt": 4}, None),
    ({"/opt": 0}, {}, None),
]


@pytest.mark.parametrize(("free", "needed", "words"), DISKS)
def test_disk(free: dict[str, int], needed: dict[str, int], words: str | None) -> None:
    host = machine(disks=disks({path: size * GIB for path, size in free.items()}))
    text = listing(disk_problems(host, {path: size * GIB for path, size in needed.items()}))
    assert (words in text) if words else text == ""


def test_each_file_system_is_counted_for_itself() -> None:
    both = {**disks({"/var": 3 * GIB}), **disks({"/opt": 3 * GIB}, mount="/opt")}
    assert disk_problems(machine(disks=both), {"/var": 2 * GIB, "/opt": 2 * GIB}) == []


def test_every_address_that_cannot_be_reached_is_named() -> None:
    problems = reachability_problems(["http://a/", "http://b/"])
    assert [address in str(problem) for address, problem in zip("ab", problems, strict=True)]


@pytest.mark.parametrize(
    ("data", "is_problem"),
    [
        ({"models": []}, True),
        ({"models": [], "vllm_build": "none"}, False),
        ({"models": [{"name": "a", "path": "/a"}]}, False),
    ],
)
def test_a_rig_needs_a_model(data: dict[str, Any], is_problem: bool) -> None:
    wishes = read_wishes(data)
    assert isinstance(wishes, Wishes)
    assert bool(model_problems(wishes)) is is_problem


WRONG = [
    ({"headless": "yes"}, ["headless", "'yes'"]),
    ({"driver_flavour": "closed"}, ["driver_flavour", "'closed'", "open"]),
    ({"mirror_url": "ftp://x"}, ["mirror_url"]),
    ({"vllm_build": "rocm"}, ["vllm_build", "cuda"]),
    ({"models": [{"name": "a"}]}, ["models.0.path"]),
    ({"driver_source": {"kind": "runfile"}}, ["driver_source.kind", "mirror"]),
    ({"driver_source": {"kind": "nvidia", "brunch": 580}}, ["driver_source.brunch"]),
    ({"gateway": 8484}, ["gateway"]),
]


@pytest.mark.parametrize(("data", "words"), WRONG)
def test_wrong_data_is_named(data: dict[str, Any], words: list[str]) -> None:
    problems = read_wishes(data)
    assert isinstance(problems, list)
    text = listing(problems)
    assert [word for word in words if word not in text] == []


def test_what_is_none_takes_its_default() -> None:
    assert read_wishes({"headless": None, "models": None, "gateway": None}) == Wishes()


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_a_problem_reads_as_sentences(parts: list[str]) -> None:
    text = str(Problem(*parts))
    assert all(part in text for part in parts if part)
