"""Scenarios: what is refused and how it is said, and that writing loses nothing."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from virtual_rig import cards, scenario
from virtual_rig.errors import BadInput


def _gpu(**changes: object) -> dict[str, object]:
    values = {"uuid": "GPU-1", "bus_id": "0000:01:00.0", "name": "C", "memory_total_bytes": 1}
    return values | changes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 1, column 2"),
        ("[]", "must be a rig snapshot"),
        (json.dumps({"gpu": []}), "gpu"),
        (json.dumps({"gpus": [_gpu(uuid="3080")]}), "gpus.0.uuid"),
        (json.dumps({"gpus": [_gpu(bus_id="01:00.0")]}), "gpus.0.bus_id"),
        (json.dumps({"gpus": [_gpu(memory_total_bytes=-1)]}), "gpus.0.memory_total_bytes"),
        (json.dumps({"gpus": [_gpu(colour="red")]}), "gpus.0.colour"),
        (json.dumps({"gpus": [_gpu(scenario={"lots": True})]}), "gpus.0.scenario.lots"),
        (json.dumps({"gpus": [_gpu(), _gpu(bus_id="0000:02:00.0")]}), "GPU-1 stands twice"),
        (json.dumps({"gpus": [_gpu(), _gpu(uuid="GPU-2")]}), "0000:01:00.0 stands twice"),
    ],
)
def test_what_is_no_snapshot_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        scenario.parse(text, "rig.json")
    assert "rig.json" in str(caught.value)
    assert said in str(caught.value)


def test_a_missing_file_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.json"):
        scenario.read(tmp_path / "none.json")


def test_what_is_written_is_read_again(desktop: Path) -> None:
    before = scenario.read(desktop)
    scenario.write(desktop, before)
    assert scenario.read(desktop) == before


@pytest.mark.parametrize(
    ("begin", "count"), [("GPU-", "4 of"), ("GPU-9", "0 of"), ("gpu-1e", "0 of")]
)
def test_a_card_must_be_named_exactly(desktop: Path, begin: str, count: str) -> None:
    with pytest.raises(BadInput, match=count):
        scenario.read(desktop).card(begin)


def test_changes_at_the_same_time_are_all_kept(desktop: Path) -> None:
    uuids = [card.uuid for card in scenario.read(desktop).gpus]

    def take_out(uuid: str) -> None:
        with scenario.editing(desktop) as edit:
            edit.scenario = cards.take_out(edit.scenario, uuid)

    threads = [threading.Thread(target=take_out, args=(uuid,)) for uuid in uuids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scenario.read(desktop).present() == ()
    assert not list(desktop.parent.glob(".desktop.json.*"))


def test_a_boot_forgets_what_was_said_of_displays(desktop: Path) -> None:
    lit = cards.display(scenario.read(desktop), "GPU-1e", on=True)
    assert scenario.without_display_overrides(lit).card("GPU-1e").scenario.display_now is None
