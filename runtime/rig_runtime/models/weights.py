"""Matrices -> bytes, by the way tensor parallelism treats them."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from rig_runtime.models.shape import Matrix, Quantisation, Weights

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}

UNQUANTISED = ("router",)
"""Linear layers that every format leaves in the model's dtype."""


def weights_of(
    matrices: Iterable[Matrix], quantisation: Quantisation | None, dtype: str, norm_bytes: int
) -> Weights:
    """The bytes of one layer: its matrices, and norms that every rank keeps whole."""
    total = Weights(whole_bytes=norm_bytes)
    for matrix in matrices:
        total += _weights(matrix, quantisation, DTYPE_BYTES[dtype])
    return total


def is_quantised(matrix: Matrix, quantisation: Quantisation | None) -> bool:
    """Whether this linear layer is stored in the quantised format."""
    if quantisation is None or matrix.name in UNQUANTISED:
        return False
    last = matrix.name.split()[-1]
    return not any(_matches(last, pattern) for pattern in quantisation.skipped)


def _matches(name: str, pattern: str) -> bool:
    """Whether a pattern of a quantisation_config means all linear layers of that name.

    Patterns are module paths, at times with layer numbers or 're:' expressions; only one that
    names a projection without a layer number speaks of all layers.
    """
    tail = pattern.removeprefix("re:").rsplit(".", 1)[-1]
    whole = not any(character.isdigit() for character in pattern)
    return whole and fnmatchcase(name, tail) and tail != "*"


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
