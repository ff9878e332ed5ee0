"""Headers of safetensors files: every tensor's name, type and bytes, without its data.

A file is 8 bytes of header length, a JSON header, then data; files are read no further than the
header. Hostile headers are refused: the format's own rules (offsets inside the file, no overlap,
sizes that match the shape) are checked before a number is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import BinaryIO

from rig_runtime.errors import BadInput
from rig_runtime.files import is_file, open_regular
from rig_runtime.models.fields import parse_json_object, read_json_object

MAX_HEADER_BYTES = 32 << 20
MAX_FILES = 1024
MAX_DIMENSIONS = 8

DTYPE_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint."""

    name: str
    dtype: str
    bytes: int


def read_tensors(directory: Path) -> tuple[Tensor, ...] | None:
    """All tensors of a model directory; None where it has no weights.

    With an index, the files that it names; without, every *.safetensors. Raises BadInput for a
    file that is damaged, and for an index of which some files are missing.
    """
    index = directory / "model.safetensors.index.json"
    files = _indexed_files(index) if is_file(index) else sorted(directory.glob("*.safetensors"))
    present = [file for file in files if is_file(file)]
    if not present:
        return None
    if len(present) < len(files):
        missing = next(file for file in files if not is_file(file))
        raise BadInput(
            f"{directory} is incomplete",
            found=f"{len(present)} of {len(files)} weight files, {missing.name} is missing",
            how="download it again; with no weight file at all the weights are computed",
        )
    return _without_duplicates([tensor for file in files for tensor in read_header(file)])


def _indexed_files(index: Path) -> list[Path]:
    weight_map = read_json_object(index).section("weight_map")
    if weight_map is None:
        raise BadInput(f"{index} has no weight_map")
    names = {weight_map.text(key) for key in weight_map.values}
    if len(names) > MAX_FILES:
        raise BadInput(f"{index} names {len(names)} files", works=f"at most {MAX_FILES}")
    if outside := [name for name in names if not name or Path(name).name != name]:
        raise BadInput(
            f"{index} names the file {sorted(outside)[0][:80]!r}",
            works="file names without a directory",
        )
    return [index.parent / name for name in sorted(names)]


def _without_duplicates(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadInput(f"the tensor {twice[:80]!r} is in two weight files")
    return tuple(tensors)


def read_header(path: Path) -> tuple[Tensor, ...]:
    """The tensors of one file. Raises BadInput where the file is not what it says."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            return tuple(_read(file, size, str(path)))
    except OSError as error:
        raise BadInput(f"cannot read {path}", found=error.strerror or str(error)) from error


def _read(file: BinaryIO, size: int, source: str) -> Iterator[Tensor]:
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise BadInput(
            f"{source} is no safetensors file, or is cut short",
            found=f"a header of {length} bytes in a file of {size}",
        )
    header = parse_json_object(file.read(length), source)
    header.pop("__metadata__", None)
    data_bytes = size - 8 - length
    spans = []
    for name, value in header.items():
        tensor, span = _tensor(name, value, data_bytes, source)
        spans.append(span)
        yield tensor
    spans.sort()
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise BadInput(f"{source}: two tensors overlap at byte {start}")


def _tensor(
    name: str, value: object, data_bytes: int, source: str
) -> tuple[Tensor, tuple[int, int]]:
    where = f"{source}: tensor {name[:80]!r}"
    if not isinstance(value, dict):
        raise BadInput(f"{where} is no object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    bits = DTYPE_BITS.get(dtype, 0) if isinstance(dtype, str) else 0
    sizes, span = _naturals(shape), _naturals(offsets)
    if not bits or sizes is None or span is None or len(span) != 2 or len(sizes) > MAX_DIMENSIONS:
        raise BadInput(f"{where} has a wrong dtype, shape or data_offsets")
    size = prod(sizes) * bits // 8
    if span[1] - span[0] != size or span[1] > data_bytes:
        raise BadInput(
            f"{where} does not fit its file",
            found=f"it needs {size} bytes, data_offsets are {span} in {data_bytes}",
            how="the file may be cut short: download it again",
        )
    return Tensor(name, str(dtype), size), (span[0], span[1])


def _naturals(value: object) -> list[int] | None:
    """A list of whole numbers from 0 to 2^63, or None."""
    if isinstance(value, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in value):
        return value
    return None
