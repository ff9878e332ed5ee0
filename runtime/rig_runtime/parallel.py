"""Which splits are legal, and the reason where one is not.

The rules of vLLM 0.32: `verify_with_parallel_config` (config/model.py), `divide()` in the parallel
linear layers and the vocabulary, and each quantisation format's own. A reason has a code, a
sentence and the numbers in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rig_runtime.gpus import Gpu
from rig_runtime.models.shape import Matrix, ModelShape, Quantisation
from rig_runtime.models.weights import is_quantised
from rig_runtime.vllm_memory import padded_vocabulary

VLLM_MIN_CAPABILITY = (7, 5)
BF16_MIN_CAPABILITY = (8, 0)
FP8_KV_MIN_CAPABILITY = (8, 9)
LLAMA_MIN_CAPABILITY = (5, 0)


class Reason(NamedTuple):
    """Why something is not possible."""

    code: str
    sentence: str


def tensor_parallel_reasons(shape: ModelShape, tensor: int) -> tuple[Reason, ...]:
    """Every rule that this tensor-parallel size breaks; empty where it is legal."""
    return (*_divisibility(shape, tensor), *_quantisation_reasons(shape, tensor))


def _divisibility(shape: ModelShape, tensor: int) -> Iterator[Reason]:
    heads = shape.num_attention_heads
    if heads % tensor:
        yield Reason(
            "attention_heads_not_divisible",
            f"{heads} attention heads cannot be divided by {tensor}",
        )
    for kv_heads in shape.kv_head_counts:
        if tensor < kv_heads and kv_heads % tensor:
            yield Reason(
                "kv_heads_not_divisible", f"{kv_heads} KV heads cannot be divided by {tensor}"
            )
        elif tensor >= kv_heads and tensor % kv_heads:
            yield Reason(
                "kv_heads_not_divisible",
                f"{kv_heads} KV heads cannot be copied evenly to {tensor} ranks",
            )
    vocabulary = padded_vocabulary(shape)
    if vocabulary % tensor:
        yield Reason(
            "vocabulary_not_divisible",
            f"the vocabulary, padded to {vocabulary}, cannot be divided by {tensor}",
        )
    for code, label, size in ((each.code, each.label, each.size) for each in shape.divisible):
        if size % tensor:
            yield Reason(code, f"the {label} {size} cannot be divided by {tensor}")


def _quantisation_reasons(shape: ModelShape, tensor: int) -> Iterator[Reason]:
    quantisation = shape.quantisation
    if quantisation is None or quantisation.pads_groups:
        return
    seen: set[str] = set()
    for matrix in shape.matrices:
        if is_quantised(matrix, quantisation) and not _indivisible(matrix, tensor):
            reason = _matrix_reason(matrix, quantisation, tensor)
            if reason and reason.sentence not in seen:
                seen.add(reason.sentence)
                yield reason


def _indivisible(matrix: Matrix, tensor: int) -> bool:
    """Already refused by the size itself: no second reason for its groups."""
    if matrix.shard in ("row", "expert_row"):
        return matrix.inputs % tensor != 0
    return matrix.shard in ("column", "expert_column") and matrix.outputs % tensor != 0


def _matrix_reason(matrix: Matrix, quantisation: Quantisation, tensor: int) -> Reason | None:
    group, block = quantisation.group_size, quantisation.block_size
    inputs = matrix.inputs // tensor if matrix.shard in ("row", "expert_row") else matrix.inputs
    if group and inputs % group:
        return Reason(
            "quantisation_group_not_divisible",
            f"{quantisation.method} with groups of {group}: each of {tensor} ranks would hold "
            f"{inputs} inputs of {matrix.name}, not a multiple of {group}",
        )
    for size, side in _blocked_sizes(matrix, tensor):
        if block and size % block:
            return Reason(
                "quantisation_block_not_divisible",
                f"{quantisation.method} in blocks of {block}: each of {tensor} ranks would hold "
                f"{size} {side} of {matrix.name}, not a multiple of {block}",
            )
    return None


MERGED = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
"""Linear layers that vLLM joins into one, so that blocks must not cross from one to the next."""


def _blocked_sizes(matrix: Matrix, tensor: int) -> Iterator[tuple[int, str]]:
    """The sizes that whole blocks must fill: inputs where they are divided, outputs where they
    are divided or joined (`validate_fp8_block_shape` in vLLM)."""
    if matrix.shard in ("row", "expert_row"):
        if tensor > 1:
            yield matrix.inputs // tensor, "inputs"
    elif matrix.shard != "whole" and (tensor > 1 or matrix.name.endswith(MERGED)):
        yield outputs_on_rank(matrix, tensor), "outputs"


def outputs_on_rank(matrix: Matrix, tensor: int) -> int:
    """Rows of a matrix on one rank."""
    if matrix.shard in ("column", "expert_column"):
        return matrix.outputs // tensor
    if matrix.shard == "kv":
        return matrix.outputs // matrix.heads * max(1, matrix.heads // tensor)
    return matrix.outputs


def card_reasons(shape: ModelShape, gpu: Gpu, kv_cache_dtype: str) -> tuple[Reason, ...]:
    """What one card cannot run, whatever the split. An unknown capability is no reason."""
    capability = gpu.capability
    if capability is None:
        return ()
    return tuple(_capability_reasons(shape, capability, kv_cache_dtype))


def _capability_reasons(
    shape: ModelShape, capability: tuple[int, int], kv_cache_dtype: str
) -> Iterator[Reason]:
    has = f"it has compute capability {_version(capability)}"
    if capability < VLLM_MIN_CAPABILITY:
        yield Reason("capability_too_low", f"vLLM needs {_version(VLLM_MIN_CAPABILITY)} and {has}")
    quantisation = shape.quantisation
    if quantisation and capability < quantisation.min_capability:
        needs = _version(quantisation.min_capability)
        yield Reason("format_unsupported", f"{quantisation.method} needs {needs} and {has}")
    if kv_cache_dtype.startswith("fp8") and capability < FP8_KV_MIN_CAPABILITY:
        needs = _version(FP8_KV_MIN_CAPABILITY)
        yield Reason("kv_cache_dtype_unsupported", f"an fp8 KV cache needs {needs} and {has}")


def llama_card_reasons(gpu: Gpu) -> tuple[Reason, ...]:
    """What keeps llama.cpp's CUDA build from a card."""
    capability = gpu.capability
    if capability is None or capability >= LLAMA_MIN_CAPABILITY:
        return ()
    needs, has = _version(LLAMA_MIN_CAPABILITY), _version(capability)
    return (Reason("capability_too_low", f"llama.cpp needs {needs} and it has {has}"),)


def group_reasons(gpus: Sequence[Gpu]) -> tuple[Reason, ...]:
    """Why these cards cannot serve one model together.

    vLLM asks the first device what dtype and attention kernel to use: with a card on each side
    of capability 8.0 (bf16, FlashAttention) one worker cannot run what the other was given.
    """
    old = next((gpu for gpu in gpus if is_old(gpu)), None)
    new = next((gpu for gpu in gpus if gpu.capability and not is_old(gpu)), None)
    if old is None or new is None:
        return ()
    return (
        Reason(
            "mixed_generations",
            f"{old.name} ({old.compute_capability}: no bf16, no FlashAttention) cannot share "
            f"an engine with {new.name} ({new.compute_capability})",
        ),
    )


def is_old(gpu: Gpu) -> bool:
    """Whether a card is known to have no bf16."""
    capability = gpu.capability
    return capability is not None and capability < BF16_MIN_CAPABILITY


def _version(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
