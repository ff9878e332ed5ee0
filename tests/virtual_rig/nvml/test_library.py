"""The simulated library, asked by the real pynvml in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from virtual_rig import cards, nvml, scenario
from virtual_rig.nvml import build
from virtual_rig.nvml.flat import Driver, flat

DATA = Path(__file__).parents[1] / "data"

_HEAD = """
import json, pynvml as n
def says(function, *arguments):
    try:
        return function(*arguments)
    except n.NVMLError as error:
        return type(error).__name__
n.nvmlInit()
cards = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
"""


def ask(snapshot: Path, program: str) -> Any:
    """What a program that uses pynvml prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + program],
        env={**os.environ, **nvml.environment(snapshot, snapshot.with_suffix(".flat"))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["desktop.json", "nvlink.json"])
def test_pynvml_sees_the_snapshot(name: str, tmp_path: Path) -> None:
    snapshot = tmp_path / name
    snapshot.write_bytes((DATA / name).read_bytes())
    wanted = scenario.read(snapshot)
    seen = ask(
        snapshot,
        """
rows = []
for card in cards:
    memory = n.nvmlDeviceGetMemoryInfo(card, version=n.nvmlMemory_v2)
    rows.append([n.nvmlDeviceGetUUID(card), n.nvmlDeviceGetName(card), memory.total, memory.used,
        memory.reserved, n.nvmlDeviceGetMemoryInfo(card).used,
        2 * n.nvmlDeviceGetMaxClockInfo(card, n.NVML_CLOCK_MEM) * 10**6
          * n.nvmlDeviceGetMemoryBusWidth(card) // 8,
        n.nvmlDeviceGetPowerManagementLimit(card), n.nvmlDeviceGetCurrPcieLinkWidth(card),
        n.nvmlDeviceGetPciInfo(card).busId, list(n.nvmlDeviceGetCudaComputeCapability(card)),
        len(n.nvmlDeviceGetGraphicsRunningProcesses(card)), n.nvmlDeviceGetDisplayActive(card)])
print(json.dumps(rows))
""",
    )
    assert seen == [
        [
            card.uuid,
            card.name,
            card.memory_total_bytes,
            card.memory_used_bytes,
            card.memory_reserved_bytes,
            (card.memory_used_bytes or 0) + (card.memory_reserved_bytes or 0),
            card.memory_bandwidth_bytes_per_second,
            (card.power_limit_watts or 0) * 1000,
            card.pcie_width_current,
            f"0000{card.bus_id}",
            [int(part) for part in (card.compute_capability or "").split(".")],
            len(card.processes),
            int(card.display_active or False),
        ]
        for card in wanted.present()
    ]


def test_nvlinks_reach_the_other_card(tmp_path: Path) -> None:
    snapshot = tmp_path / "nvlink.json"
    snapshot.write_bytes((DATA / "nvlink.json").read_bytes())
    seen = ask(
        snapshot,
        """
far = [says(n.nvmlDeviceGetNvLinkRemotePciInfo, cards[0], link) for link in range(5)]
print(json.dumps({
    "far": [f if isinstance(f, str) else f.busId for f in far],
    "p2p": n.nvmlDeviceGetP2PStatus(cards[0], cards[1], 0),
    "path": n.nvmlDeviceGetTopologyCommonAncestor(cards[0], cards[1]),
}))""",
    )
    assert seen["far"] == ["00000000:02:00.0"] * 4 + ["NVMLError_NotSupported"]
    assert seen["p2p"] == 0
    assert seen["path"] == 30


def test_what_a_card_does_not_report_is_not_supported(tmp_path: Path) -> None:
    snapshot = tmp_path / "bare.json"
    bare = {"uuid": "GPU-1", "bus_id": "0000:01:00.0", "name": "C", "memory_total_bytes": 1 << 30}
    snapshot.write_text(json.dumps({"driver_version": "580.95.05", "gpus": [bare]}))
    names = "PowerUsage CurrPcieLinkWidth DisplayActive MemoryBusWidth MemoryInfo Serial"
    seen = ask(
        snapshot,
        f"""
names = "{names}".split()
print(json.dumps([says(getattr(n, "nvmlDeviceGet" + name), cards[0]) for name in names]))""",
    )
    assert set(seen) == {"NVMLError_NotSupported"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may set what a card does")
def test_setters_hold_and_refuse(desktop: Path) -> None:
    program = """
c = cards[1]
print(json.dumps([
    says(n.nvmlDeviceSetPowerManagementLimit, c, 150000), n.nvmlDeviceGetPowerManagementLimit(c),
    says(n.nvmlDeviceSetPowerManagementLimit, c, 99000), n.nvmlDeviceGetPowerManagementLimit(c),
    says(n.nvmlDeviceSetGpuLockedClocks, c, 300, 1500), n.nvmlDeviceGetClockInfo(c, 0),
    says(n.nvmlDeviceResetGpuLockedClocks, c), n.nvmlDeviceGetClockInfo(c, 0),
    says(n.nvmlDeviceSetPersistenceMode, c, 1), n.nvmlDeviceGetPersistenceMode(c)]))"""
    refused = "NVMLError_InvalidArgument"
    assert ask(desktop, program) == [
        *[None, 150000, refused, 150000],
        *[None, 300, None, 210, None, 1],
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_only_root_sets(desktop: Path) -> None:
    program = """
import os
os.seteuid(65534)
print(json.dumps([says(n.nvmlDeviceSetPersistenceMode, cards[0], 1),
    says(n.nvmlDeviceGetPersistenceMode, cards[0])]))"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        snapshot = Path(shutil.copy(desktop, folder))
        assert ask(snapshot, program) == ["NVMLError_NoPermission", 0]


def test_a_running_program_sees_cards_change(desktop: Path) -> None:
    """One process, held by its pipes: each line it reads lets it look again."""
    place = desktop.with_suffix(".flat")
    environment = {**os.environ, **nvml.environment(desktop, place)}
    program = (
        _HEAD
        + """
events = n.nvmlEventSetCreate()
for card in cards:
    n.nvmlDeviceRegisterEvents(card, n.nvmlEventTypeXidCriticalError, events)
while input() == "look":
    try:
        xid = n.nvmlEventSetWait_v2(events, 0).eventData
    except n.NVMLError_Timeout:
        xid = None
    print(json.dumps([n.nvmlDeviceGetCount(), xid, says(n.nvmlDeviceGetName, cards[1]),
        len(n.nvmlDeviceGetComputeRunningProcesses(cards[0]))]), flush=True)
"""
    )
    rig = scenario.read(desktop)
    name, lost = "NVIDIA GeForce RTX 3070", "NVMLError_GpuIsLost"
    steps = [
        (rig, [4, None, name, 0]),
        (cards.lose(rig, "GPU-1e"), [4, 79, lost, 0]),
        (cards.lose(rig, "GPU-1e"), [4, None, lost, 0]),
        (rig, [4, None, name, 0]),
        (cards.take_out(rig, "GPU-1e"), [3, None, lost, 0]),
        (cards.load(rig, "GPU-3c", 1 << 30, "blender"), [4, None, name, 1]),
    ]
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin
        assert running.stdout
        for cards_now, wanted in steps:
            scenario.replace_file(place, flat(cards_now, Driver("loaded", "580.95.05")))
            running.stdin.write("look\n")
            running.stdin.flush()
            assert json.loads(running.stdout.readline()) == wanted
        running.stdin.write("end\n")


@pytest.mark.parametrize(
    ("driver", "error"),
    [
        (Driver("not_loaded"), "NVMLError_DriverNotLoaded"),
        (Driver("mismatch", "580.95.05"), "NVMLError_LibRmVersionMismatch"),
    ],
)
def test_without_its_driver_it_says_why(desktop: Path, driver: Driver, error: str) -> None:
    place = desktop.with_suffix(".flat")
    environment = nvml.environment(desktop, place)
    scenario.replace_file(place, flat(scenario.read(desktop), driver))
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert error in done.stderr


def test_every_name_that_is_looked_up_is_there() -> None:
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", str(build.library())],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    there = {line.split()[-1] for line in symbols.splitlines()}
    assert build.looked_up_names() <= there
    # Nothing else shows: a name of ours must not take the place of one in the program.
    assert all(name.startswith("nvml") for name in there)


def test_a_second_build_is_the_first() -> None:
    before = build.library().stat().st_mtime_ns
    assert build.library().stat().st_mtime_ns == before
