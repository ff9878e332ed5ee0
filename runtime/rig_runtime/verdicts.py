"""Why each card is used, spare or left out: one sentence with the numbers in it."""

from __future__ import annotations

from collections.abc import Iterable

from rig_runtime.candidate import Candidate
from rig_runtime.candidates import SAME_SPEED, Search
from rig_runtime.gpus import Gpu, usable
from rig_runtime.parallel import Reason
from rig_runtime.plan_types import CardVerdict, RankMemory, SplitName
from rig_runtime.units import counted, size, tokens

Verdict = tuple[str, Reason]


def card_verdicts(search: Search, chosen: Candidate | None) -> tuple[CardVerdict, ...]:
    """A verdict for every card of the rig, in the rig's order."""
    return tuple(_card(search, chosen, gpu) for gpu in search.rig.gpus)


def _card(search: Search, chosen: Candidate | None, gpu: Gpu) -> CardVerdict:
    rank = chosen.uuids.index(gpu.uuid) if chosen and gpu.uuid in chosen.uuids else None
    need = chosen.ranks[rank] if chosen and rank is not None else None
    if chosen and rank is not None and need is not None:
        verdict, reason = "used", _used(search, chosen, gpu, rank, need)
    else:
        verdict, reason = _not_used(search, chosen, gpu)
    parts = usable(gpu, search.request.margin_bytes)
    return CardVerdict(
        uuid=gpu.uuid,
        name=gpu.name,
        bus_id=gpu.bus_id,
        verdict=verdict,
        reason=reason.sentence,
        reason_code=reason.code,
        total_bytes=gpu.memory_total_bytes,
        held_bytes=gpu.memory_used_bytes,
        reserved_bytes=gpu.memory_reserved_bytes,
        usable_bytes=parts.usable_bytes,
        needed_bytes=need.total_bytes if need else 0,
        rank=rank,
        parts=need,
    )


def _used(search: Search, chosen: Candidate, gpu: Gpu, rank: int, need: RankMemory) -> Reason:
    place = f"rank {rank} of {len(chosen.gpus)}" if len(chosen.gpus) > 1 else "the whole model"
    room = search.room[gpu.uuid]
    sentence = f"{place}: needs {size(need.total_bytes)} of {size(room)} usable"
    if len(chosen.gpus) > 1 and gpu.pcie_width_current is None:
        sentence += "; its link width is unknown, x4 is assumed"
    return Reason("used", sentence)


def _not_used(search: Search, chosen: Candidate | None, gpu: Gpu) -> Verdict:
    if gpu.uuid in search.unusable:
        return "excluded", search.unusable[gpu.uuid]
    best_with_it = next((c for c in search.ranked if gpu.uuid in c.uuids), None)
    if best_with_it is not None and chosen is not None:
        return "spare", _spare(search, chosen, best_with_it)
    return "excluded", _excluded(search, search.by_card[gpu.uuid])


def _spare(search: Search, chosen: Candidate, other: Candidate) -> Reason:
    """Why the best plan that has this card is not the plan."""
    goal = search.wish.goal_tokens
    reach = min(other.max_context_tokens, goal)
    if reach < min(chosen.max_context_tokens, goal):
        return Reason(
            "less_context",
            f"not needed: {describe(other)} would hold {tokens(reach)} tokens of context instead "
            f"of {tokens(min(chosen.max_context_tokens, goal))}",
        )
    pace, best = other.decode_tokens_per_second, chosen.decode_tokens_per_second
    if pace is None or best is None:
        return Reason("not_needed", f"not needed: {describe(chosen)} is enough")
    return _not_faster(search, chosen, other, (round(pace), round(best)))


def _not_faster(
    search: Search, chosen: Candidate, other: Candidate, paces: tuple[int, int]
) -> Reason:
    """The first thing in which the other is worse, in the order of the ranking: speed, number of
    cards, watts, room left for others. Equal speeds are no reason."""
    (pace, best), more = paces, len(other.gpus) - len(chosen.gpus)
    would = f"not needed: {describe(other)} would decode"
    link = _slower_link(chosen, other)
    if pace * SAME_SPEED < best:
        return Reason("slower", f"{would} {pace} tokens/s{link}, the plan {best}")
    if more > 0 and pace > best:
        return Reason(
            "gain_too_small",
            f"{would} {pace} tokens/s instead of {best}, too little for "
            f"{counted(more, 'more card')}",
        )
    if more > 0:
        return Reason(
            "no_gain", f"{would} no more tokens/s ({pace}) with {counted(more, 'more card')}"
        )
    same = (
        f"{would} as many tokens/s ({pace})" if pace >= best else f"{would} {pace} tokens/s{link}"
    )
    if other.watts > chosen.watts:
        watts = f"{other.watts:.0f} W instead of {chosen.watts:.0f} W"
        return Reason("more_watts", f"{same}, with {watts}")
    if pace < best:
        return Reason("slower", f"{same}, the plan {best}")
    if _room(search, other) > _room(search, chosen):
        return Reason("leaves_less_room", f"{same}; the plan leaves more room for other models")
    return Reason("as_good", f"{same}: as good as the plan, which has the first of equal cards")


def _slower_link(chosen: Candidate, other: Candidate) -> str:
    """Where the other set talks over a narrower link, its width."""
    narrow, wide = _narrowest(other), _narrowest(chosen)
    return f" over a link of x{narrow}" if narrow and wide and narrow < wide else ""


def _narrowest(candidate: Candidate) -> int | None:
    """The width of the narrowest link of a set; None for one card and where it is unknown."""
    widths = [gpu.pcie_width_current for gpu in candidate.gpus]
    known = [width for width in widths if width is not None]
    return min(known) if len(known) == len(widths) > 1 else None


def _room(search: Search, candidate: Candidate) -> int:
    return sum(search.room[uuid] for uuid in candidate.uuids)


def _excluded(search: Search, with_card: list[Candidate]) -> Reason:
    """The reason of the candidate with this card that came nearest: legal but too small if there
    is one, else a rule of the card itself, then of the group, then of the split."""
    alone = [c for c in with_card if len(c.gpus) == 1]
    barred = [c for c in alone if c.reasons and c.reasons[0].code != "not_asked_for"]
    if alone and len(barred) == len(alone):
        return barred[0].reasons[0]
    short = [c for c in with_card if c.legal]
    sentence = ""
    if short:
        nearest = min(short, key=lambda c: (max(c.lacking_bytes), len(c.gpus)))
        where = "" if len(nearest.gpus) == 1 else f"{describe(nearest)}: "
        sentence = where + lacking(search, nearest)
    overloaded = _first(with_card, "power_supply_overloaded")
    if overloaded:
        return overloaded
    mixed = _first(with_card, "mixed_generations")
    if mixed:
        return Reason(mixed.code, f"{sentence}; {mixed.sentence}" if sentence else mixed.sentence)
    if sentence:
        return Reason("does_not_fit", sentence)
    return _illegal(with_card)


def _illegal(with_card: list[Candidate]) -> Reason:
    """No legal split has this card: the smallest set's own reasons."""
    smallest = min(with_card, key=lambda c: (len(c.gpus), len(c.reasons)))
    return Reason(
        smallest.reasons[0].code,
        f"{describe(smallest)}: " + "; ".join(reason.sentence for reason in smallest.reasons),
    )


def _first(candidates: Iterable[Candidate], code: str) -> Reason | None:
    return next((r for c in candidates for r in c.reasons if r.code == code), None)


def lacking(search: Search, candidate: Candidate) -> str:
    """Which card of a legal candidate is too small, and by how much."""
    rank = max(range(len(candidate.gpus)), key=lambda i: candidate.lacking_bytes[i])
    gpu, need = candidate.gpus[rank], candidate.ranks[rank]
    subject = "alone it" if len(candidate.gpus) == 1 else f"the {short_name(gpu)}"
    return (
        f"{subject} would need {size(need.total_bytes)} for {_load(search)} and has "
        f"{size(search.room[gpu.uuid])}"
    )


def _load(search: Search) -> str:
    wish = search.wish
    each = f"{tokens(wish.least_tokens)} tokens"
    return each if wish.sequences == 1 else f"{wish.sequences} x {each}"


def describe(candidate: Candidate) -> str:
    """A set of cards in words: '2 x RTX 3060, tensor parallel'."""
    names = [short_name(gpu) for gpu in candidate.gpus]
    counted = [
        f"{names.count(name)} x {name}" if names.count(name) > 1 else name
        for name in dict.fromkeys(names)
    ]
    return " + ".join(counted) + SPLIT_WORDS[split_name(candidate)]


SPLIT_WORDS: dict[SplitName, str] = {
    "none": "",
    "tensor": ", tensor parallel",
    "pipeline": ", pipeline parallel",
    "tensor+pipeline": ", tensor and pipeline parallel",
    "layer": ", layers split",
}


def split_name(candidate: Candidate) -> SplitName:
    """The kind of split in one word."""
    tensor, stages = candidate.split.tensor, len(candidate.split.partition)
    if tensor > 1:
        return "tensor+pipeline" if stages > 1 else "tensor"
    if stages == 1:
        return "none"
    return "layer" if candidate.rules.name == "ollama" else "pipeline"


def short_name(gpu: Gpu) -> str:
    """'NVIDIA GeForce RTX 3060' -> 'RTX 3060'."""
    return gpu.name.removeprefix("NVIDIA ").removeprefix("GeForce ").removeprefix("Graphics ")
