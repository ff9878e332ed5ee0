"""Changes of the cards: each one and its opposite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_rig import cards, scenario
from virtual_rig.errors import BadInput
from virtual_rig.scenario import Scenario

RIG = scenario.read(Path(__file__).parent / "data" / "desktop.json")
uuids = st.sampled_from([card.uuid for card in RIG.gpus])


@given(uuids)
def test_a_card_that_is_put_in_again_is_the_one_that_was_taken_out(uuid: str) -> None:
    without = cards.take_out(RIG, uuid)
    assert uuid not in [card.uuid for card in without.present()]
    assert cards.put_in(without, uuid) == RIG


@given(uuids)
def test_a_restored_card_is_the_one_that_was_lost(uuid: str) -> None:
    lost = cards.lose(RIG, uuid)
    assert lost.card(uuid).scenario.lost
    assert lost.card(uuid).scenario.xid == 79
    assert cards.restore(lost, uuid) == RIG


@given(uuids, st.integers(min_value=0, max_value=7 << 30))
def test_a_load_is_seen_and_goes(uuid: str, used_bytes: int) -> None:
    loaded = cards.load(RIG, uuid, used_bytes, "blender")
    before, after = RIG.card(uuid), loaded.card(uuid)
    assert after.memory_used_bytes == (before.memory_used_bytes or 0) + used_bytes
    assert after.processes[-1].name == "blender"
    assert cards.unload(loaded, uuid) == RIG


@given(uuids)
def test_two_loads_are_two_processes(uuid: str) -> None:
    twice = cards.load(cards.load(RIG, uuid, 1 << 20, "a"), uuid, 1 << 20, "b")
    pids = [process.pid for process in twice.card(uuid).processes]
    assert len(set(pids)) == len(pids)


def test_no_more_is_loaded_than_is_free() -> None:
    with pytest.raises(BadInput, match="MiB of it are free"):
        cards.load(RIG, "GPU-1e", 8 << 30, "blender")


def test_a_card_that_is_in_cannot_be_put_in() -> None:
    with pytest.raises(BadInput, match="is in the box"):
        cards.put_in(RIG, "GPU-1e")


def test_a_new_card_gets_a_free_slot_and_links() -> None:
    new = RIG.card("GPU-1e").model_copy(update={"uuid": "GPU-new"})
    grown = cards.put_in_new(RIG, (new,))
    assert grown.card("GPU-new").bus_id == "0000:02:00.0"
    assert sum("GPU-new" in (link.a, link.b) for link in grown.links) == len(RIG.gpus)


def test_a_known_card_is_not_new() -> None:
    with pytest.raises(BadInput, match="known already"):
        cards.put_in_new(RIG, RIG.gpus[:1])


@pytest.mark.parametrize("uuid", ["GPU-3c", "GPU-1e"])
def test_a_display_can_be_lit_anywhere(uuid: str) -> None:
    lit = cards.display(RIG, uuid, on=True).card(uuid)
    assert lit.display_active
    assert lit.scenario.display_now
    assert [process.name for process in lit.processes] == ["Xorg", "gnome-shell"]


def test_a_display_that_goes_out_keeps_its_processes_for_the_next_boot() -> None:
    dark: Scenario = cards.display(RIG, "GPU-3c", on=False)
    assert dark.card("GPU-3c").processes == RIG.card("GPU-3c").processes
    assert dark.card("GPU-3c").scenario.display_now is False
