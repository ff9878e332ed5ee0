"""One model -> a plan: which cards, which split, which context, and a reason for every card."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from rig_runtime import speed
from rig_runtime.candidate import Candidate, closest
from rig_runtime.candidates import Search
from rig_runtime.errors import BadInput, NothingFits
from rig_runtime.fixes import fixes
from rig_runtime.gpus import Gpu, Rig, usable
from rig_runtime.models.shape import ModelShape
from rig_runtime.parallel import BF16_MIN_CAPABILITY, Reason
from rig_runtime.plan_types import (
    Alternative,
    CardVerdict,
    EngineName,
    KvCacheDtype,
    Plan,
    PlanRequest,
    Problem,
    RankMemory,
    SplitName,
)
from rig_runtime.units import tokens
from rig_runtime.verdicts import card_verdicts, describe, lacking, short_name, split_name

__all__ = [
    "Alternative",
    "CardVerdict",
    "EngineName",
    "KvCacheDtype",
    "Plan",
    "PlanRequest",
    "Problem",
    "RankMemory",
    "SplitName",
    "nothing_fits",
    "plan_model",
]

MOST_ALTERNATIVES = 5
UTILIZATION_STEP = 10_000
"""gpu_memory_utilization is rounded down to four decimals."""


def plan_model(shape: ModelShape, rig: Rig, request: PlanRequest) -> Plan:
    """The best plan for one model on these cards, or a plan that says why there is none.

    Pure. Raises BadInput for a request that no rig could meet: a context that the model was not
    made for.
    """
    _check_context(shape, request)
    search = Search.of(shape, rig, request)
    best = search.best
    return _infeasible(search) if best is None else _feasible(search, best)


def nothing_fits(plan: Plan) -> NothingFits:
    """An infeasible plan as the error that it is."""
    problem = plan.problem or Problem(needed="no plan", found="", works="", how="")
    return NothingFits(problem.needed, found=problem.found, works=problem.works, how=problem.how)


def _check_context(shape: ModelShape, request: PlanRequest) -> None:
    wanted, longest = request.context_tokens, shape.max_position_embeddings
    if wanted is not None and wanted > longest:
        raise BadInput(
            f"{shape.name} was made for {tokens(longest)} tokens of context",
            found=f"{tokens(wanted)} were asked for",
            works=f"at most {tokens(longest)}",
        )


def _feasible(search: Search, best: Candidate) -> Plan:
    split = best.split
    limits = search.power_limits(best.gpus)
    limits = {} if isinstance(limits, Reason) else limits
    stages = len(split.partition)
    return Plan(
        feasible=True,
        model=search.shape.name,
        engine=best.rules.name,
        split=split_name(best),
        gpu_set=best.uuids,
        tensor_parallel_size=split.tensor,
        pipeline_parallel_size=stages,
        layer_partition=split.partition if stages > 1 else None,
        context_tokens=best.context_tokens,
        max_context_tokens=best.max_context_tokens,
        sequences=search.request.sequences,
        kv_cache_dtype=search.request.kv_cache_dtype,
        kv_cache_bytes=max(rank.kv_cache_bytes + rank.state_bytes for rank in best.ranks),
        gpu_memory_utilization=_utilization(best) if best.rules.name == "vllm" else None,
        max_num_batched_tokens=best.rules.batched_tokens,
        dtype=_dtype(search.shape, best.gpus),
        weights_bytes=search.shape.weights_bytes,
        weights_exact=search.shape.weights_exact,
        expected_decode_tokens_per_second=_rounded(best.decode_tokens_per_second),
        expected_prefill_tokens_per_second=_rounded(
            speed.prefill_tokens_per_second(search.shape, split, best.gpus, search.links)
        ),
        expected_power_watts=_watts(best, limits),
        power_limits_watts=limits,
        ranks=best.ranks,
        cards=card_verdicts(search, best),
        fixes=fixes(search) if best.max_context_tokens < search.wish.goal_tokens else (),
        alternatives=_alternatives(search, best),
        notes=search.shape.notes,
    )


def _infeasible(search: Search) -> Plan:
    possible = fixes(search)
    longest = search.longest
    return Plan(
        feasible=False,
        model=search.shape.name,
        engine=search.engines[0].name,
        split="none",
        gpu_set=(),
        tensor_parallel_size=search.request.tensor_parallel_size or 1,
        context_tokens=search.request.context_tokens,
        max_context_tokens=longest or None,
        sequences=search.request.sequences,
        kv_cache_dtype=search.request.kv_cache_dtype,
        weights_bytes=search.shape.weights_bytes,
        weights_exact=search.shape.weights_exact,
        cards=card_verdicts(search, None),
        fixes=possible,
        alternatives=_alternatives(search, None),
        notes=search.shape.notes,
        problem=_problem(search, possible, longest),
    )


def _problem(search: Search, possible: tuple[str, ...], longest: int) -> Problem:
    """What was needed, what there is, what would work, how to get it."""
    name = search.shape.name
    how = "; ".join(possible) or "use a smaller or more strongly quantised model, or more cards"
    if not search.rig.gpus:
        return Problem(
            needed=f"{name} needs an NVIDIA card",
            found="this rig has none",
            works="a card that the driver can see",
            how="check the risers and 'lspci -d 10de:', provision the driver (pyinfra "
            "inventory.py deploy.py), then look with 'rig-runtime gpus'",
        )
    dtype = search.request.kv_cache_dtype
    against = [rules.model_reasons(dtype) for rules in search.engines]
    if all(against):
        return Problem(
            needed=f"{name} needs an engine that serves it so",
            found="; ".join(reason.sentence for reasons in against for reason in reasons),
            works="Hugging Face directories with vLLM, GGUF files with Ollama",
            how="leave the engine and the KV cache's type to the planner, or use the model's other "
            "form",
        )
    nearest = closest(search.candidates)
    if not search.cards:
        return Problem(
            needed=f"{name} needs a card that may be used",
            found="; ".join(
                f"{short_name(gpu)} at {gpu.bus_id}: {search.unusable[gpu.uuid].sentence}"
                for gpu in search.rig.gpus
            ),
            works="at least one card that works and is not left out",
            how=how,
        )
    if nearest is None:
        return Problem(
            needed=f"{name} needs a set of cards that may split it",
            found="; ".join(_against_splits(search)[:6]),
            works="",
            how=how,
        )
    return Problem(
        needed=f"{name} does not fit these cards",
        found=f"nearest: {describe(nearest)}: {lacking(search, nearest)}",
        works=f"{tokens(longest)} tokens of context fit" if longest else "",
        how=how,
    )


def _against_splits(search: Search) -> list[str]:
    """Why no split is legal, of the engines that serve the model, once each."""
    dtype = search.request.kv_cache_dtype
    able = [rules for rules in search.engines if not rules.model_reasons(dtype)]
    reasons = [r for c in search.candidates if c.rules in able for r in c.reasons]
    real = [reason for reason in reasons if reason.code != "not_asked_for"] or reasons
    sentences = dict.fromkeys(reason.sentence for reason in real)
    return list(sentences)


def _alternatives(search: Search, best: Candidate | None) -> tuple[Alternative, ...]:
    """The runners-up, one for each kind of set, and why they lost."""
    names = {describe(best)} if best else set()
    found: list[Alternative] = []
    for other in chain(search.ranked, _nearest_first(search)):
        if len(found) == MOST_ALTERNATIVES:
            break
        if (name := describe(other)) not in names:
            names.add(name)
            why_not = _why_not(other, best) if other.fits else lacking(search, other)
            found.append(_alternative(other, f"{name}: {why_not}"))
    return tuple(found)


def _nearest_first(search: Search) -> Iterator[Candidate]:
    """The legal candidates that are too small, those that lack least first."""
    short = (c for c in search.candidates if c.legal and not c.fits)
    yield from sorted(short, key=lambda c: (max(c.lacking_bytes), len(c.gpus)))


def _alternative(other: Candidate, why_not: str) -> Alternative:
    return Alternative(
        engine=other.rules.name, gpu_set=other.uuids, why_not=why_not, split=split_name(other)
    )


def _why_not(other: Candidate, best: Candidate | None) -> str:
    pace = other.decode_tokens_per_second
    said = f"{tokens(other.max_context_tokens)} tokens of context at most"
    if pace is not None:
        said += f", {pace:.0f} tokens/s"
    if best is not None and best.decode_tokens_per_second is not None:
        said += f" (the plan: {tokens(best.max_context_tokens)} and "
        said += f"{best.decode_tokens_per_second:.0f})"
    return said


def _utilization(best: Candidate) -> float:
    """The smallest share over the ranks of what each asks for through vLLM's own budget.

    vLLM takes the share of the memory that CUDA reports (NVML's total without the reserved part)
    and compares it with what is free after the context exists.
    """
    shares = []
    for gpu, rank in zip(best.gpus, best.ranks, strict=True):
        parts = usable(gpu)
        visible = parts.total_bytes - parts.reserved_bytes
        shares.append((rank.total_bytes - rank.fixed_bytes) * UTILIZATION_STEP // visible)
    return max(1, min(shares)) / UTILIZATION_STEP


def _dtype(shape: ModelShape, gpus: tuple[Gpu, ...]) -> str:
    """float16 where a card of the set has no bfloat16 and the model is in it."""
    old = any(gpu.capability and gpu.capability < BF16_MIN_CAPABILITY for gpu in gpus)
    return "float16" if old and shape.dtype == "bfloat16" else "auto"


def _watts(best: Candidate, limits: dict[str, float]) -> float | None:
    """What the cards may draw together, at the limits that the plan sets."""
    known = [limits.get(gpu.uuid, gpu.power_limit_watts) for gpu in best.gpus]
    return None if None in known else sum(watts for watts in known if watts is not None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
