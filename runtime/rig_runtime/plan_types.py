"""What goes into a plan and what comes out: the contract of `rig-runtime plan --json`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

EngineName = Literal["vllm", "ollama"]
SplitName = Literal["none", "tensor", "pipeline", "tensor+pipeline", "layer"]
KvCacheDtype = Literal[
    "auto",
    "float16",
    "bfloat16",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "f16",
    "q8_0",
    "q5_1",
    "q5_0",
    "q4_0",
]
"""vLLM's words, then llama.cpp's; 'auto' is 16 bits in both."""


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RankMemory(_Result):
    """The bytes that one rank needs on its card. The parts add up to `total_bytes`."""

    weights_bytes: int
    kv_cache_bytes: int
    state_bytes: int
    compute_bytes: int
    fixed_bytes: int
    total_bytes: int


class CardVerdict(_Result):
    """Why one card is used, spare or left out. Bytes as integers; None is unknown.

    `usable_bytes` = total - reserved - held - margin; `needed_bytes` is what the plan puts there,
    and `rank` which rank of the engine (None where the card is not used), `parts` its parts.
    """

    uuid: str
    name: str
    bus_id: str
    verdict: Literal["used", "spare", "excluded"]
    reason: str
    reason_code: str
    total_bytes: int | None
    held_bytes: int | None
    reserved_bytes: int | None
    usable_bytes: int
    needed_bytes: int
    rank: int | None = None
    parts: RankMemory | None = None


class Alternative(_Result):
    """Another way that was considered, and why it was not taken."""

    engine: str
    gpu_set: tuple[str, ...]
    why_not: str
    split: str = "none"


class Problem(_Result):
    """Why there is no plan, in the four parts of an error."""

    needed: str
    found: str
    works: str
    how: str


class PowerSupply(_Result):
    """A power supply and the cards it feeds, by UUID."""

    name: str = Field(min_length=1)
    watts: float = Field(gt=0, le=10_000, description="its rating")
    cards: tuple[str, ...]
    other_watts: float = Field(
        0, ge=0, le=10_000, description="what else it feeds: board, processor, disks"
    )


class PlanRequest(_Result):
    """What the user asks for one model; None leaves the choice to the planner.

    `sequences` sequences of `context_tokens` each must fit at the same time. `engines` are those
    that are installed; `engine` is the one to use. `busy` are cards that other models work with.
    """

    engine: EngineName | None = None
    engines: tuple[EngineName, ...] = ("vllm", "ollama")
    context_tokens: int | None = Field(None, ge=1)
    sequences: int = Field(4, ge=1, le=1024)
    tensor_parallel_size: int | None = Field(None, ge=1, le=8)
    kv_cache_dtype: KvCacheDtype = "auto"
    exclude: frozenset[str] = frozenset()
    power_supplies: tuple[PowerSupply, ...] = ()
    busy: frozenset[str] = frozenset()
    margin_bytes: int = Field(0, ge=0)


class Plan(_Result):
    """One model on one GPU set, or why there is none.

    `gpu_set` is in rank order. What an engine is started with: `context_tokens` (vLLM's
    max_model_len), `sequences` (max_num_seqs), `max_num_batched_tokens`, `kv_cache_bytes` (on
    each rank), `kv_cache_dtype`, `dtype`, `layer_partition`, and `gpu_memory_utilization`: the
    share of each card's memory that the rank needs without CUDA context and NCCL, so that vLLM's
    check of the free memory passes on a card that drives a desktop too. `power_limits_watts` are
    the limits that cards must be set to first, by UUID, so that no power supply is overloaded.
    """

    feasible: bool
    model: str
    engine: EngineName
    split: SplitName
    gpu_set: tuple[str, ...]
    tensor_parallel_size: int
    pipeline_parallel_size: int = 1
    layer_partition: tuple[int, ...] | None = None
    context_tokens: int | None
    max_context_tokens: int | None
    sequences: int
    kv_cache_dtype: KvCacheDtype
    kv_cache_bytes: int | None = None
    gpu_memory_utilization: float | None = None
    max_num_batched_tokens: int | None = None
    dtype: str = "auto"
    weights_bytes: int = 0
    weights_exact: bool = False
    expected_decode_tokens_per_second: float | None = None
    expected_prefill_tokens_per_second: float | None = None
    expected_power_watts: float | None = None
    power_limits_watts: dict[str, float] = {}
    ranks: tuple[RankMemory, ...] = ()
    cards: tuple[CardVerdict, ...]
    fixes: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    notes: tuple[str, ...] = ()
    problem: Problem | None = None
