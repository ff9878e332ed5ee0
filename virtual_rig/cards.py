"""Taking cards out, putting them in, losing them, loading them: pure changes of a scenario.

A real card is changed with the rig switched off. A rehearsal allows it at any time as well: what
changes shows on the bus and in NVML at once, and programs that held the card see it lost.
"""

from __future__ import annotations

from virtual_rig.errors import BadInput
from virtual_rig.scenario import Card, CardLink, Process, Scenario

FALLEN_OFF_THE_BUS = 79
"""The Xid of a card that the bus lost."""
_FIRST_PID = 20000
_DESKTOP = (("Xorg", 310 << 20), ("gnome-shell", 390 << 20))


def take_out(scenario: Scenario, uuid: str) -> Scenario:
    """The card leaves the box; the scenario keeps it, to be put in again."""
    return _with_extras(scenario, scenario.card(uuid), present=False)


def put_in(scenario: Scenario, uuid: str) -> Scenario:
    """A card that was taken out comes back into its slot."""
    card = scenario.card(uuid)
    if card.scenario.present:
        raise BadInput("A card can be put in that is not in", found=f"{card.uuid} is in the box")
    return _with_extras(scenario, card, present=True, lost=False, xid=None)


def put_in_new(scenario: Scenario, cards: tuple[Card, ...]) -> Scenario:
    """Cards from another snapshot come into the box, in free slots where theirs are taken."""
    for card in cards:
        if any(card.uuid == other.uuid for other in scenario.gpus):
            raise BadInput(
                "A new card must have a UUID of its own", found=f"{card.uuid} is known already"
            )
        links = tuple(
            CardLink(a=other.uuid, b=card.uuid, nvlinks=0, p2p=False, path="PHB")
            for other in scenario.gpus
        )
        placed = card.model_copy(update={"bus_id": _free_slot(scenario, card.bus_id)})
        scenario = scenario.model_copy(
            update={"gpus": (*scenario.gpus, placed), "links": (*scenario.links, *links)}
        )
    return scenario


def lose(scenario: Scenario, uuid: str, xid: int = FALLEN_OFF_THE_BUS) -> Scenario:
    """The card falls off the bus: NVML answers "GPU is lost", and an Xid event tells of it."""
    return _with_extras(scenario, scenario.card(uuid), lost=True, xid=xid)


def restore(scenario: Scenario, uuid: str) -> Scenario:
    """A lost card answers again, as after a power cycle."""
    return _with_extras(scenario, scenario.card(uuid), lost=False, xid=None)


def load(scenario: Scenario, uuid: str, used_bytes: int, process: str) -> Scenario:
    """A foreign process takes memory of the card and keeps it busy."""
    card = scenario.card(uuid)
    free = card.memory_total_bytes - (card.memory_reserved_bytes or 0) - _used(card)
    if used_bytes > free:
        raise BadInput(
            f"{process} was to hold {used_bytes >> 20} MiB of {card.name}",
            found=f"{free >> 20} MiB of it are free",
        )
    pids = [other.pid for gpu in scenario.gpus for other in gpu.processes]
    pid = max([_FIRST_PID, *pids]) + 1
    holder = Process(pid=pid, kind="compute", name=process, used_bytes=used_bytes)
    loaded = _holding(card, (*card.processes, holder), _used(card) + used_bytes)
    return _with_extras(scenario, loaded, utilization_percent=90)


def unload(scenario: Scenario, uuid: str) -> Scenario:
    """All compute processes leave the card."""
    card = scenario.card(uuid)
    stay = tuple(process for process in card.processes if process.kind != "compute")
    gone = sum(p.used_bytes or 0 for p in card.processes if p.kind == "compute")
    return _with_extras(
        scenario, _holding(card, stay, max(0, _used(card) - gone)), utilization_percent=0
    )


def display(scenario: Scenario, uuid: str, on: bool) -> Scenario:
    """A desktop starts on this card, or leaves it; until the next boot decides again."""
    card = scenario.card(uuid)
    if on and not any(process.kind == "graphics" for process in card.processes):
        pids = range(1400, 1400 + len(_DESKTOP))
        desktop = tuple(
            Process(pid=pid, kind="graphics", name=name, used_bytes=used)
            for pid, (name, used) in zip(pids, _DESKTOP, strict=True)
        )
        used = _used(card) + sum(size for _, size in _DESKTOP)
        card = _holding(card, (*card.processes, *desktop), used)
    if on:
        card = card.model_copy(update={"display_active": True, "display_attached": True})
    return _with_extras(scenario, card, display_now=on)


def _used(card: Card) -> int:
    return card.memory_used_bytes or 0


def _holding(card: Card, processes: tuple[Process, ...], used_bytes: int) -> Card:
    return card.model_copy(update={"processes": processes, "memory_used_bytes": used_bytes})


def _with_extras(scenario: Scenario, card: Card, **changes: object) -> Scenario:
    extras = card.scenario.model_copy(update=changes)
    return scenario.replaced(card.model_copy(update={"scenario": extras}))


def _free_slot(scenario: Scenario, bus_id: str) -> str:
    taken = {card.bus_id for card in scenario.gpus}
    if bus_id not in taken:
        return bus_id
    return next(slot for bus in range(1, 256) if (slot := f"0000:{bus:02x}:00.0") not in taken)
