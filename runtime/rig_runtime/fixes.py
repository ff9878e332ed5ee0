"""What would let more fit, with its number: each fix is a changed question, asked again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rig_runtime.candidates import Search
from rig_runtime.gpus import Gpu, usable
from rig_runtime.units import size, tokens
from rig_runtime.verdicts import short_name

MOST_FIXES = 5
LEAST_GAIN_TOKENS = 512
HALVED_CACHES = ("fp8", "q8_0")
"""vLLM's and llama.cpp's word for a cache of half the size; an engine refuses the other's."""


@dataclass(frozen=True)
class Change:
    """One thing the owner could do, and the question it leads to."""

    what: str
    search: Search


def fixes(search: Search) -> tuple[str, ...]:
    """The changes that give a plan where there is none, or a longer context.

    Those that are enough for the wish come first, and among them the cheapest: the order in which
    `_changes` has them.
    """
    now, wish = search.longest, search.request.context_tokens
    found: dict[str, bool] = {}
    for change in _changes(search):
        reach = change.search.longest
        if reach >= now + LEAST_GAIN_TOKENS:
            enough = wish is None or reach >= wish
            found.setdefault(f"{change.what}: {_gain(now, reach, wish)}", enough)
    if shrink := _shrink(search):
        found[shrink] = True
    return tuple(sorted(found, key=lambda text: not found[text])[:MOST_FIXES])


def _gain(now: int, reach: int, wish: int | None) -> str:
    if now == 0:
        return f"{tokens(reach)} tokens of context would fit"
    fits = " (enough)" if wish is not None and now < wish <= reach else ""
    return f"{tokens(reach - now)} tokens more, {tokens(reach)} in all{fits}"


def _shrink(search: Search) -> str:
    """What fits now, where the wish does not."""
    wish, reach = search.request.context_tokens, search.longest
    if wish is None or reach >= wish or reach == 0:
        return ""
    return f"ask for {tokens(reach)} tokens of context or fewer: that fits now"


def _changes(search: Search) -> Iterator[Change]:
    for gpu in search.rig.gpus:
        if change := _free(search, gpu):
            yield change
    request = search.request
    if request.sequences > 1:
        one = request.model_copy(update={"sequences": 1})
        yield Change(
            "serve one sequence at a time instead of " + str(request.sequences),
            search.asked_again(request=one),
        )
    if request.kv_cache_dtype in ("auto", "float16", "bfloat16", "f16"):
        for dtype in HALVED_CACHES:
            half = request.model_copy(update={"kv_cache_dtype": dtype})
            yield Change(f"store the KV cache as {dtype}", search.asked_again(request=half))
    if request.tensor_parallel_size is not None:
        free = request.model_copy(update={"tensor_parallel_size": None})
        yield Change(
            "leave the tensor parallel size to the planner", search.asked_again(request=free)
        )
    if request.exclude:
        back = request.model_copy(update={"exclude": frozenset()})
        yield Change("let the planner use all cards", search.asked_again(request=back))


def _free(search: Search, gpu: Gpu) -> Change | None:
    """Stop what holds memory of this card."""
    held = usable(gpu).held_bytes
    if not held or gpu.uuid in search.unusable:
        return None
    names = [process.name or f"pid {process.pid}" for process in gpu.processes]
    who = "the desktop" if gpu.display_active else ", ".join(names) or "what holds memory"
    freed = gpu.model_copy(
        update={"memory_used_bytes": 0, "processes": (), "display_active": False}
    )
    gpus = tuple(freed if each.uuid == gpu.uuid else each for each in search.rig.gpus)
    rig = search.rig.model_copy(update={"gpus": gpus})
    return Change(
        f"stop {who} on the {short_name(gpu)} (+{size(held)})", search.asked_again(rig=rig)
    )
