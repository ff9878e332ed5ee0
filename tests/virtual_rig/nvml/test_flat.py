"""The flat file: NVML's units, and nothing where nothing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtual_rig import scenario
from virtual_rig.nvml.flat import Driver, as_snapshot_says, cuda_version, flat, shown
from virtual_rig.scenario import Card, Scenario

RIG = scenario.read(Path(__file__).parents[1] / "data" / "desktop.json")


@pytest.mark.parametrize(
    ("driver", "cuda"),
    [
        ("580.95.05", 13000),
        ("550.163.01", 12040),
        ("535.261.03", 12020),
        ("999.1", 13030),
        ("470.1", 12000),
        ("", 12000),
    ],
)
def test_a_branch_brings_its_cuda(driver: str, cuda: int) -> None:
    assert cuda_version(driver) == cuda


def test_units_are_those_of_nvml() -> None:
    lines = flat(RIG, Driver("loaded", "580.95.05")).splitlines()
    for line in ("power_limit 320000", "memory_total 10737418240", "memory_bus_width 320"):
        assert line in lines
    assert "memory_clock_max 9500" in lines  # 9500 MHz x 2 x 320 bit = 760 GB/s
    assert "process 1412 graphics 325058560 Xorg" in lines


def test_what_is_unknown_is_left_out() -> None:
    bare = Card(uuid="GPU-1", bus_id="0000:01:00.0", name="C", memory_total_bytes=1)
    text = flat(Scenario(gpus=(bare,)), Driver("loaded", "580.95.05"))
    for key in ("memory_used", "power_limit", "pcie_gen_max", "memory_clock_max", "display_active"):
        assert key not in text


def test_a_card_that_is_out_is_left_out() -> None:
    out = RIG.gpus[0].scenario.model_copy(update={"present": False})
    without = RIG.replaced(RIG.gpus[0].model_copy(update={"scenario": out}))
    assert f"gpu {RIG.gpus[0].uuid}" not in flat(without, Driver("loaded", "580.95.05"))


@pytest.mark.parametrize(("now", "booted"), [(None, False), (False, True)])
def test_without_a_desktop_its_memory_is_free(now: bool | None, booted: bool) -> None:
    card = RIG.gpus[0]
    extras = card.scenario.model_copy(update={"display_now": now})
    dark = shown(card.model_copy(update={"scenario": extras}), desktop=booted)
    assert dark.processes == ()
    assert dark.memory_used_bytes == 0
    assert dark.display_active is False


def test_without_a_driver_version_no_driver_is_loaded() -> None:
    assert as_snapshot_says(Scenario()).state == "not_loaded"
