"""What has to leave the cards so that one more model fits. Pure.

A model that is wanted takes free room first. Where there is none, the residents of least value
leave: those of lower priority first, among equals those that do not answer now and were idle
longest. No more leave than needed: each of them, had it stayed, would have left no room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rig_runtime.gpus import Gpu, Rig, usable
from rig_runtime.models.shape import ModelShape
from rig_runtime.plan import plan_model
from rig_runtime.plan_types import Plan, PlanRequest


@dataclass(frozen=True)
class Resident:
    """A model that is on cards now, or is being loaded onto them.

    `last_used` is in seconds since the epoch. `held_bytes` are what its processes hold on each
    card, by UUID, as measured; None where nobody measured it: then its plan counts.
    """

    name: str
    plan: Plan
    priority: int = 0
    pinned: bool = False
    is_answering: bool = False
    last_used: float = 0.0
    held_bytes: Mapping[str, int] | None = None

    @property
    def value(self) -> tuple[int, bool, float, str]:
        """Smaller leaves first."""
        return self.priority, self.is_answering, self.last_used, self.name


@dataclass(frozen=True)
class Room:
    """How a wanted model gets onto the cards.

    `plan` is infeasible, with its problem, where nothing that may leave would help. `evict` are
    the residents to unload first, in that order; those of them in `wait_for` answer now, and have
    to be let finish.
    """

    plan: Plan
    evict: tuple[str, ...] = ()
    wait_for: tuple[str, ...] = ()


def make_room(
    shape: ModelShape,
    request: PlanRequest,
    rig: Rig,
    residents: Sequence[Resident],
    *,
    priority: int = 0,
) -> Room:
    """A plan for the wanted model, and who leaves for it.

    `rig` is as measured now, with what the residents hold. Pinned residents stay, and so do those
    of a priority above the wanted model's; a model that fits beside all of them evicts none, be
    the plan slower or not.
    """
    may_leave = sorted(
        (each for each in residents if not each.pinned and each.priority <= priority),
        key=lambda each: each.value,
    )

    def without(leaving: Sequence[Resident]) -> Plan:
        staying = [each for each in residents if each not in leaving]
        busy = request.busy.union(*(each.plan.gpu_set for each in staying))
        wish = request.model_copy(update={"busy": busy})
        return plan_model(shape, cards_without(rig, staying, leaving), wish)

    plan = without(())
    if plan.feasible or not may_leave or not (everything := without(may_leave)).feasible:
        return Room(plan if plan.feasible or not may_leave else everything)
    leaving = _fewest_of_the_least(may_leave, lambda some: without(some).feasible)
    return Room(
        without(leaving),
        tuple(each.name for each in leaving),
        tuple(each.name for each in leaving if each.is_answering),
    )


def _fewest_of_the_least(
    may_leave: Sequence[Resident], is_enough: Callable[[Sequence[Resident]], bool]
) -> list[Resident]:
    """The shortest beginning of the list that is enough, without those that need not leave.

    The list begins with the least valuable, and all of it is enough. More that leave never make
    it worse, so the beginning is found by halving.
    """
    too_few, enough = 0, len(may_leave)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if is_enough(may_leave[:middle]):
            enough = middle
        else:
            too_few = middle
    leaving = list(may_leave[:enough])
    for each in reversed(may_leave[: enough - 1]):
        fewer = [other for other in leaving if other is not each]
        if is_enough(fewer):
            leaving = fewer
    return leaving


def beside(rig: Rig, others: Sequence[Plan]) -> Rig:
    """The rig with what other plans need counted as held.

    An engine that runs is already in what was measured, one that still loads only in part: so
    each card's larger figure of the two counts.
    """
    return cards_without(rig, [Resident(plan.model, plan) for plan in others], [])


def cards_without(rig: Rig, staying: Sequence[Resident], leaving: Sequence[Resident]) -> Rig:
    """The rig as it is when these have left, and those that stay hold all that they were planned.

    What a card holds besides is what was measured, less what all residents hold there.
    """
    gpus = tuple(_without(gpu, staying, leaving) for gpu in rig.gpus)
    return rig.model_copy(update={"gpus": gpus})


def _without(gpu: Gpu, staying: Sequence[Resident], leaving: Sequence[Resident]) -> Gpu:
    planned = sum(_planned(each, gpu.uuid) for each in staying)
    ours = sum(_held(each, gpu.uuid) for each in (*staying, *leaving))
    if not planned and not ours:
        return gpu
    measured = usable(gpu).held_bytes
    stay = sum(max(_planned(each, gpu.uuid), _held(each, gpu.uuid)) for each in staying)
    return gpu.model_copy(update={"memory_used_bytes": max(0, measured - ours) + stay})


def _planned(resident: Resident, uuid: str) -> int:
    return sum(card.needed_bytes for card in resident.plan.cards if card.uuid == uuid)


def _held(resident: Resident, uuid: str) -> int:
    """What a resident holds on a card: as measured, else as planned."""
    if resident.held_bytes is None:
        return _planned(resident, uuid)
    return resident.held_bytes.get(uuid, 0)
