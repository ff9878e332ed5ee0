"""Branch and flavour from PCI ids alone: every generation, mixed rigs, impossible ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.driver_choice import DriverChoice, choose_driver
from tasks.generations import card_name, generation, nvidia_cards
from tests.tasks.cases import CARDS, by_id, device

LTS = 580


@pytest.mark.parametrize(("card", "row"), [(name, row) for name, (_, row) in CARDS.items()])
def test_generation_of_a_card(card: str, row: str) -> None:
    found = generation(CARDS[card][0])
    assert found is not None
    assert found.name == row


# facts/provisioning: the last branch and the kernel modules of each architecture.
CHOICES = [
    (["GTX 970"], 580, "proprietary"),
    (["P40"], 580, "proprietary"),
    (["V100"], 580, "proprietary"),
    (["P106-100", "P104-100"], 580, "proprietary"),
    (["RTX 2070"], 580, "open"),
    (["RTX 3080", "RTX 3070", "RTX 3060", "RTX 3060"], 580, "open"),
    (["RTX 4090"], 580, "open"),
    (["H100"], 580, "open"),
    (["RTX 5090"], 580, "open"),
    (["RTX 3090", "RTX 5090"], 595, "open"),
    (["P40", "RTX 3090"], 580, "proprietary"),
    (["RTX 3080"], 535, "proprietary"),
    (["RTX 3080"], 550, "proprietary"),
]


@pytest.mark.parametrize(("cards", "branch", "flavour"), CHOICES)
def test_choice(cards: list[str], branch: int, flavour: str) -> None:
    devices = [device(card, bus) for bus, card in enumerate(cards, start=1)]
    assert choose_driver(devices, branch) == DriverChoice(branch, flavour)  # type: ignore[arg-type]


REFUSALS = [
    (["GTX 480"], 580, None, ["390", "Fermi", "0000:01:00.0"]),
    (["GTX 680"], 580, None, ["470", "Kepler", "0000:01:00.0"]),
    (["P40"], 595, None, ["580", "Pascal", "0000:01:00.0"]),
    (["RTX 5090"], 550, None, ["570", "Blackwell", "0000:01:00.0"]),
    (["P40", "RTX 5060 Ti"], 580, None, ["0000:01:00.0", "0000:02:00.0", "open", "proprietary"]),
    (["RTX 5090"], 580, "proprietary", ["Blackwell", 'driver_flavour = "open"']),
    (["P40"], 580, "open", ["Pascal", 'driver_flavour = "proprietary"']),
    (["RTX 3090"], 595, "proprietary", ["branch 595", 'driver_flavour = "open"']),
]


@pytest.mark.parametrize(("cards", "branch", "wanted", "words"), REFUSALS)
def test_refusal_names_the_cards(
    cards: list[str], branch: int, wanted: str | None, words: list[str]
) -> None:
    devices = [device(card, bus) for bus, card in enumerate(cards, start=1)]
    problems = choose_driver(devices, branch, wanted)  # type: ignore[arg-type]
    assert isinstance(problems, list)
    text = " ".join(map(str, problems))
    assert [word for word in words if word not in text] == []


def test_small_cards_may_ask_for_the_proprietary_modules() -> None:
    assert choose_driver([device("RTX 3070")], LTS, "proprietary") == DriverChoice(
        LTS, "proprietary"
    )


def test_without_cards_there_is_nothing_to_choose() -> None:
    other = by_id("3e92", vendor="8086")
    audio = by_id("1aef", pci_class="0403")
    assert choose_driver([other, audio], LTS) is None


def test_an_unknown_card_is_unknown_not_refused() -> None:
    choice = choose_driver([device("RTX 3080"), by_id("4fff", 2)], LTS)
    assert choice == DriverChoice(LTS, "open", (card_name(by_id("4fff", 2)),))


@given(st.lists(st.sampled_from(sorted(CARDS)), min_size=1, max_size=8), st.integers(470, 620))
def test_a_choice_suits_every_card(names: list[str], branch: int) -> None:
    devices = [device(name, bus) for bus, name in enumerate(names, start=1)]
    choice = choose_driver(devices, branch)
    rows = [generation(card["device"]) for card in nvidia_cards(devices)]
    if isinstance(choice, DriverChoice):
        assert all(row and choice.flavour in row.flavours for row in rows)
        assert all(row and (row.last_branch or branch) >= branch for row in rows)
        assert all(row and (row.first_branch or branch) <= branch for row in rows)
    else:
        assert choice


@given(st.permutations(["P40", "RTX 3080", "RTX 2070", "RTX 3060"]))
def test_the_order_of_the_cards_does_not_matter(names: list[str]) -> None:
    devices = [device(name, bus) for bus, name in enumerate(names, start=1)]
    assert choose_driver(devices, LTS) == DriverChoice(LTS, "proprietary")
