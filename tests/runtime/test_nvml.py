"""Reading the cards through real pynvml from the simulated library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig_runtime.nvml import bandwidth
from tests.runtime.made import DATA
from virtual_rig import nvml

Run = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ.setdefault("VIRTUAL_RIG_CACHE", str(tmp_path_factory.mktemp("cache")))


def gpus_command(environment: dict[str, str]) -> Run:
    return subprocess.run(
        [sys.executable, "-m", "rig_runtime", "gpus", "--json"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def rig_with(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], name: str = "reference-with-desktop"
) -> Run:
    """Read a rig through NVML after its snapshot was changed."""
    content = json.loads((DATA / "rigs" / f"{name}.json").read_text())
    change(content)
    (tmp_path / "scenario.json").write_text(json.dumps(content))
    return gpus_command(nvml.environment(tmp_path / "scenario.json", tmp_path / "flat"))


@pytest.mark.parametrize(
    "name", ["reference-with-desktop", "reference-plus-2070", "two-3090-nvlink", "three-3060"]
)
def test_what_nvml_says_is_the_snapshot(tmp_path: Path, name: str) -> None:
    path = DATA / "rigs" / f"{name}.json"
    result = gpus_command(nvml.environment(path, tmp_path / "flat"))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(path.read_text())


def test_a_lost_card_stays_in_the_list_with_its_reason(tmp_path: Path) -> None:
    def lose(content: dict[str, Any]) -> None:
        content["gpus"][1]["scenario"] = {"lost": True}

    result = rig_with(tmp_path, lose)
    assert result.returncode == 0, result.stderr
    cards = json.loads(result.stdout)["gpus"]
    assert len(cards) == 4
    lost = [card for card in cards if "unavailable" in card]
    assert [card["unavailable"] for card in lost] == [
        "it fell off the bus: check its power cables and riser, then reboot"
    ]


def test_what_a_card_does_not_report_is_null(tmp_path: Path) -> None:
    def hide(content: dict[str, Any]) -> None:
        content["gpus"][0].update(
            pcie_width_current=None, power_limit_watts=None, compute_capability=None
        )

    card = json.loads(rig_with(tmp_path, hide).stdout)["gpus"][0]
    assert card["pcie_width_current"] is None
    assert card["power_limit_watts"] is None
    assert card["compute_capability"] is None


def test_a_driver_that_is_not_loaded_says_what_to_do(tmp_path: Path) -> None:
    def unload(content: dict[str, Any]) -> None:
        content["driver_version"] = None

    result = rig_with(tmp_path, unload)
    assert result.returncode == 1
    assert "modprobe nvidia" in result.stderr
    assert "Traceback" not in result.stderr


def test_no_library_says_what_to_do(tmp_path: Path) -> None:
    result = gpus_command({"LD_LIBRARY_PATH": str(tmp_path)})
    if result.returncode == 0:
        pytest.skip("this machine has NVIDIA's driver")
    assert result.returncode == 1
    assert "--rig FILE" in result.stderr
    assert json.loads(result.stdout)["error"]["found"]


CARDS = {
    "RTX 3080": (9501, 320, 760_080_000_000),
    "RTX 3060": (7501, 192, 360_048_000_000),
    "H100 SXM (HBM3)": (2619, 5120, 3_352_320_000_000),
    "no clock": (None, 320, None),
    "no width": (9501, None, None),
}


@pytest.mark.parametrize(("clock", "width", "expected"), CARDS.values(), ids=CARDS.keys())
def test_bandwidth_is_clock_times_width_times_two(
    clock: int | None, width: int | None, expected: int | None
) -> None:
    assert bandwidth(clock, width) == expected
