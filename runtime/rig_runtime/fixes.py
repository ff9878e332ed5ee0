"""What would let more fit, with its number: each fix is a changed question, asked again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rig_runtime.candidates import Search
from rig_runtime.gpus import Gpu, usable
from rig_runtime.units import size, tokens
from rig_runtime.verdicts import short_name

MOST_FIXES = 4
LEAST_GAIN_TOKENS = 512


@dataclass(frozen=True)
class Change:
    """One thing the owner could do, and the question it leads to."""

    what: str
    search: Search


def fixes(search: Search) -> tuple[str, ...]:
    """The changes that give a plan where there is none, or a longer context; best first."""
    now = search.longest
    wish = search.request.context_tokens
    gains: list[tuple[int, str]] = []
    for change in _changes(search):
        reach = change.search.longest
        if reach >= now + LEAST_GAIN_TOKENS:
            gains.append((reach, f"{change.what}: {_gain(now, reach, wish)}"))
    gains.sort(key=lambda gain: -gain[0])
    shrink = _shrink(search)
    return tuple(text for _, text in gains[:MOST_FIXES]) + ((shrink,) if shrink else ())


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
    if request.kv_cache_dtype in ("auto", "float16", "bfloat16"):
        half = request.model_copy(update={"kv_cache_dtype": "fp8"})
        yield Change("store the KV cache as fp8", search.asked_again(request=half))
    if request.tensor_parallel_size is not None:
        free = request.model_copy(update={"tensor_parallel_size": None})
        yield Change(
            "leave the tensor parallel size to the planner", search.asked_again(request=free)
        )
    for uuid in sorted(request.exclude):
        if left_out := next((each for each in search.rig.gpus if each.uuid == uuid), None):
            back = request.model_copy(update={"exclude": request.exclude - {uuid}})
            yield Change(
                f"let the planner use the {short_name(left_out)}", search.asked_again(request=back)
            )


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
