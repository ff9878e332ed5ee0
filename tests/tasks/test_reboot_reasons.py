"""A reboot is asked for by the host's state, never by what a run did."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.reboot_reasons import dkms_built, reboot_reasons
from tests.tasks.cases import display, driver

KERNEL = "6.1.0-56-amd64"

CASES: list[tuple[dict[str, Any], dict[str, Any], bool | None, list[str]]] = [
    ({}, {}, False, []),
    ({"boot_module_version": None, "loaded_version": None, "nouveau_loaded": True}, {}, False, []),
    ({"loaded_version": None}, {}, False, ["580.95.05 is on disk", "none is loaded"]),
    ({"loaded_version": "535.261.03"}, {}, False, ["535.261.03 is loaded"]),
    ({"nouveau_loaded": True}, {}, False, ["nouveau"]),
    ({"nova_loaded": True}, {}, False, ["nova"]),
    ({}, {"modeset": True}, False, ["kernel mode setting is on"]),
    ({}, {"modeset": True}, None, []),
    ({}, {"modeset": None}, False, []),
]


@pytest.mark.parametrize(("of_driver", "of_display", "modeset", "words"), CASES)
def test_reasons(
    of_driver: dict[str, Any], of_display: dict[str, Any], modeset: bool | None, words: list[str]
) -> None:
    reasons = reboot_reasons(driver(**of_driver), display(**of_display), modeset)
    assert bool(reasons) == bool(words)
    text = "; ".join(reasons)
    assert [word for word in words if word not in text] == []


def _module(status: str, kernel: str | None = KERNEL) -> dict[str, str | None]:
    return {"module": "nvidia", "version": "580.95.05", "kernel": kernel, "status": status}


@pytest.mark.parametrize(
    ("changes", "is_built"),
    [
        ({}, True),
        ({"dkms": [_module("added", None)]}, False),
        ({"dkms": [_module("built")]}, False),
        ({"dkms": [_module("installed", "6.1.0-55-amd64")]}, False),
        ({"dkms": [_module("installed", "6.1.0-55-amd64"), _module("installed")]}, True),
        ({"boot_module_version": None}, False),
        ({"dkms": []}, False),
    ],
)
def test_built_is_what_dkms_says_for_the_kernel_that_will_boot(
    changes: dict[str, Any], is_built: bool
) -> None:
    assert dkms_built(driver(**changes), KERNEL) is is_built
