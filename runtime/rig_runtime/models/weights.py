"""Matrices -> bytes, by the way tensor parallelism treats them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from rig_runtime.models.shape import Matrix, Quantisation, Weights

DTYPE_BYTES = {"float32": 2, "bfloat16": 2, "float16": 2}
"""As held on the card: vLLM serves a float32 checkpoint in 16 bits."""

UNQUANTISED = ("mlp.gate", "linear_attn.in_proj_ba")
"""Linear layers that every format leaves in the model's dtype: routers, tiny projections."""

EXPERTS_ONLY = ("mxfp4",)
"""Formats that hold only routed experts."""


def weights_of(
    matrices: Iterable[Matrix], quantisation: Quantisation | None, dtype: str, small_bytes: int
) -> Weights:
    """The bytes of one layer: its matrices, and small tensors that every rank keeps whole."""
    total = Weights(whole_bytes=small_bytes)
    for matrix in matrices:
        total += _weights(matrix, quantisation, DTYPE_BYTES[dtype])
    return total


def is_quantised(matrix: Matrix, quantisation: Quantisation | None) -> bool:
    """Whether this linear layer is stored in the quantised format."""
    if quantisation is None or matrix.name in UNQUANTISED:
        return False
    if quantisation.method in EXPERTS_ONLY and not matrix.name.startswith("mlp.experts"):
        return False
    return not any(_matches(matrix.name, pattern) for pattern in quantisation.skipped)


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern of a quantisation_config means the linear layers of that name everywhere.

    Patterns are module paths, at times with '*' for the layer's number or 're:' before them. One
    with a number in it speaks of a single layer: the others are still quantised, and legality has
    to hold for them.
    """
    plain = pattern.removeprefix("re:").replace(".*", "*").replace("\\\\", "").strip("^$*")
    if any(character.isdigit() for character in plain):
        return False
    ends = [part for part in plain.split("*") if part.strip(".")]
    if not ends:
        return False
    wanted = ends[-1].strip(".").removeprefix("model.").removeprefix("layers.")
    modules = name.split(".")
    prefixes = {".".join(modules[a:b]) for a in range(len(modules)) for b in range(a + 1, 4)}
    return any(fnmatchcase(each, wanted) for each in prefixes)


def _weights(matrix: Matrix, quantisation: Quantisation | None, dtype_bytes: int) -> Weights:
    if quantisation is not None and is_quantised(matrix, quantisation):
        size = int(matrix.elements * quantisation.bits_per_weight / 8)
    else:
        size = matrix.elements * dtype_bytes
    bias = matrix.outputs * matrix.count * dtype_bytes if matrix.bias else 0
    if matrix.shard == "column":
        return Weights(split_bytes=size + bias)
    if matrix.shard == "row":
        return Weights(split_bytes=size, whole_bytes=bias)
    if matrix.shard == "kv":
        return Weights(kv_bytes=size + bias)
    if matrix.shard in ("expert_column", "expert_row"):
        return Weights(expert_bytes=size + bias)
    return Weights(whole_bytes=size + bias)
