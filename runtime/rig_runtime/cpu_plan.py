"""A plan for a machine without any card, whose engine is a CPU build. Pure.

All ranks share the machine's memory. The CPU build computes in float32: weights and KV cache of a
16-bit model take twice their bytes.
"""

from __future__ import annotations

from rig_runtime.errors import NothingFits
from rig_runtime.memory import Load
from rig_runtime.models.shape import ModelShape
from rig_runtime.parallel import tensor_parallel_reasons
from rig_runtime.plan_types import Plan, PlanRequest
from rig_runtime.units import gib, tokens
from rig_runtime.vllm_memory import VllmNeeds

DEFAULT_CONTEXT_TOKENS = 4096
FLOAT32_FACTOR = 2
PROCESS_BYTES = 1 << 30
"""Resident in one rank before weights: 0.75 GiB measured with vLLM 0.32, planned higher."""


def plan_on_cpu(shape: ModelShape, request: PlanRequest, available_bytes: int) -> Plan:
    """As many ranks as asked for, else one. Raises NothingFits."""
    tensor = request.tensor_parallel_size or 1
    if reasons := tensor_parallel_reasons(shape, tensor):
        raise NothingFits(
            f"{shape.name} must be divisible into {tensor} ranks.", found=reasons[0].sentence
        )
    longest = shape.max_position_embeddings
    context = min(request.context_tokens or DEFAULT_CONTEXT_TOKENS, longest)
    load = Load(context, request.sequences, request.kv_cache_dtype)
    (rank,) = VllmNeeds.of(shape, tensor, 1, load).ranks((shape.num_hidden_layers,), context)
    one_bytes = FLOAT32_FACTOR * (rank.weights_bytes + rank.kv_cache_bytes) + PROCESS_BYTES
    if tensor * one_bytes > available_bytes:
        raise NothingFits(
            f"{shape.name} with {request.sequences} x {tokens(context)} tokens needs "
            f"{gib(tensor * one_bytes)} of this machine's memory.",
            found=f"It has no card, and {gib(available_bytes)} of memory is available.",
            works="A smaller model, fewer sequences, or a shorter context.",
            how="Set context_tokens and sequences of the model.",
        )
    return Plan(
        feasible=True,
        model=shape.name,
        engine="vllm",
        split="none" if tensor == 1 else "tensor",
        gpu_set=(),
        tensor_parallel_size=tensor,
        context_tokens=context,
        max_context_tokens=None,
        sequences=request.sequences,
        kv_cache_dtype=request.kv_cache_dtype,
        kv_cache_bytes=rank.kv_cache_bytes,
        weights_bytes=shape.weights_bytes,
        weights_exact=shape.weights_exact,
        cards=(),
        notes=("This machine has no card: the engine's CPU build serves from its memory.",),
    )
