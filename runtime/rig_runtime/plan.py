"""One model -> a plan: which cards, which split, which context, and a reason for every card."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CardVerdict(_Result):
    """Why one card is used, spare or left out. Bytes as integers; None is unknown."""

    uuid: str
    name: str
    bus_id: str
    verdict: Literal["used", "spare", "excluded"]
    reason: str
    reason_code: str
    total_bytes: int
    held_bytes: int | None
    reserved_bytes: int | None
    usable_bytes: int
    needed_bytes: int


class Alternative(_Result):
    """Another way that was considered, and why it was not taken."""

    engine: str
    gpu_set: tuple[str, ...]
    why_not: str


class PlanRequest(_Result):
    """What the user asks for one model; None leaves the choice to the planner."""

    engine: Literal["vllm"] | None = None
    context_tokens: int | None = None
    sequences: int = 4
    tensor_parallel_size: int | None = None
    kv_cache_dtype: str = "auto"
    exclude: frozenset[str] = frozenset()
    margin_bytes: int = 0


class Plan(_Result):
    """The contract of `rig-runtime plan --json`."""

    feasible: bool
    model: str
    engine: Literal["vllm"]
    split: Literal["none", "tensor"]
    gpu_set: tuple[str, ...]
    tensor_parallel_size: int
    pipeline_parallel_size: int = 1
    layer_partition: tuple[int, ...] | None = None
    context_tokens: int | None
    max_context_tokens: int | None
    sequences: int
    kv_cache_dtype: str
    kv_cache_bytes: int | None = None
    expected_decode_tokens_per_second: float | None = None
    expected_power_watts: float | None = None
    cards: tuple[CardVerdict, ...]
    fixes: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
