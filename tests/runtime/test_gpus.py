"""What of a card is usable, and snapshots good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig_runtime.errors import BadInput
from rig_runtime.gpus import Gpu, load_rig, snapshot, usable
from rig_runtime.units import GIB, MIB
from tests.runtime.made import DATA, gpu

RIGS = sorted((DATA / "rigs").glob("*.json"))
CARD: dict[str, Any] = {"uuid": "GPU-1", "bus_id": "0000:01:00.0", "name": "card"}


@pytest.mark.parametrize("path", RIGS, ids=lambda path: path.stem)
def test_a_snapshot_survives_reading_and_writing(path: Path) -> None:
    assert snapshot(load_rig(path)) == json.loads(path.read_text())


sizes = st.none() | st.integers(0, 100 * GIB)


@given(total=sizes, reserved=sizes, used=sizes, margin=st.integers(0, GIB))
def test_usable_is_never_negative_and_its_parts_add_up(
    total: int | None, reserved: int | None, used: int | None, margin: int
) -> None:
    card = gpu(
        1,
        memory_total_bytes=total,
        memory_reserved_bytes=reserved,
        memory_used_bytes=used,
    )
    parts = usable(card, margin)
    assert parts.usable_bytes >= 0
    taken = parts.reserved_bytes + parts.held_bytes + parts.margin_bytes
    assert parts.usable_bytes == 0 or parts.total_bytes == taken + parts.usable_bytes
    assert parts.usable_bytes <= (total or 0)


def test_what_processes_hold_counts_where_the_card_reports_no_sum() -> None:
    card = gpu(
        1,
        memory_used_bytes=None,
        processes=[
            {"pid": 1, "kind": "graphics", "used_bytes": 300 * MIB},
            {"pid": 2, "kind": "compute", "used_bytes": None},
        ],
    )
    assert usable(card).held_bytes == 300 * MIB


def test_a_card_that_is_lost_has_nothing_usable() -> None:
    assert usable(gpu(1, unavailable="it fell off the bus")).usable_bytes == 0


def test_a_virtual_rigs_scenario_is_a_snapshot(tmp_path: Path) -> None:
    content = {"gpus": [{**CARD, "scenario": {"lost": False}}]}
    (tmp_path / "scenario.json").write_text(json.dumps(content))
    assert load_rig(tmp_path / "scenario.json").gpus == (Gpu(**CARD),)


BAD = {
    "not json": ("{", "not JSON"),
    "deep nesting": ("[" * 100_000, "not JSON"),
    "a list": ("[]", "snapshot"),
    "no uuid": ('{"gpus": [{"name": "x", "bus_id": "0"}]}', "gpus.0.uuid"),
    "unknown field": (json.dumps({"gpus": [{**CARD, "vram": 1}]}), "gpus.0.vram"),
    "text for a number": (
        json.dumps({"gpus": [{**CARD, "memory_total_bytes": "much"}]}),
        "memory_total_bytes",
    ),
    "negative": (json.dumps({"gpus": [{**CARD, "memory_total_bytes": -1}]}), "greater"),
    "the same card twice": (json.dumps({"gpus": [CARD, CARD]}), "GPU-1"),
    "huge": (" " * (5 << 20), "4 MiB"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_snapshot_is_one_message(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rig.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        load_rig(path)


def test_a_missing_snapshot_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.json"):
        load_rig(tmp_path / "nowhere.json")
