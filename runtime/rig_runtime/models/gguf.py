"""The header of a GGUF file: metadata and tensor table, without tensor data.

A small reader of its own rather than the gguf library's, which maps the whole file, keeps every
token of the vocabulary as an object, and trusts the lengths that it reads: a header here is bounded
in bytes, counts and depth, and tensor data may be a hole. Format: ggml-org/ggml docs/gguf.md,
versions 2 and 3, little-endian.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from pathlib import Path

from rig_runtime.errors import BadInput
from rig_runtime.files import is_file, open_regular

MAGIC = b"GGUF"
FIRST_READ_BYTES = 16 << 20
MAX_HEADER_BYTES = 128 << 20
MAX_TENSORS = 1 << 16
MAX_PAIRS = 1 << 14
MAX_STRING_BYTES = 1 << 20
MAX_SPLIT_FILES = 256
MAX_DIMENSIONS = 4
KEPT_ITEMS = 4096
"""Longer arrays (the vocabulary) are counted and skipped."""

SCALARS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
"""gguf_metadata_value_type -> its code in `struct`."""
STRING, ARRAY = 8, 9

TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
"""ggml_type -> name, elements and bytes of a block (GGML_QUANT_SIZES)."""

SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Skipped:
    """An array that is too long to keep, by its length."""

    length: int


Value = Scalar | list[Scalar] | Skipped


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor: dimensions as GGUF writes them, the row length first."""

    name: str
    type: str
    dimensions: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """All metadata and tensors of a model, of all its files."""

    source: str
    metadata: dict[str, Value]
    tensors: tuple[GgufTensor, ...]


def read_gguf(path: Path) -> GgufHeader:
    """A GGUF file, or any file of a model that is split into several. Raises BadInput."""
    files = _all_files(path)
    headers = [_read_file(file) for file in files]
    tensors = [tensor for header in headers for tensor in header.tensors]
    names = {tensor.name for tensor in tensors}
    if len(names) != len(tensors):
        raise BadInput(f"{path}: a tensor is there twice")
    total = headers[0].metadata.get("split.tensors.count")
    if len(files) > 1 and isinstance(total, int) and total != len(tensors):
        raise BadInput(f"{path}: {len(tensors)} tensors in all files", works=f"{total} are due")
    return GgufHeader(str(path), headers[0].metadata, tuple(tensors))


def _all_files(path: Path) -> list[Path]:
    """The files of a split model, by the numbers in their names; the first has the metadata."""
    parts = SPLIT_NAME.match(path.name)
    if parts is None:
        return [path]
    count = int(parts["count"])
    if not 1 <= count <= MAX_SPLIT_FILES:
        raise BadInput(f"{path} is one of {count} files", works=f"1 to {MAX_SPLIT_FILES}")
    names = [f"{parts['stem']}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    files = [path.with_name(name) for name in names]
    if missing := [file.name for file in files if not is_file(file)]:
        raise BadInput(f"{path} is one of {count} files", found=f"{missing[0]} is missing")
    return files


def _read_file(path: Path) -> GgufHeader:
    """The header lies at the beginning: little is read at first, more only if it goes on."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            for most in (FIRST_READ_BYTES, MAX_HEADER_BYTES):
                file.seek(0)
                content = file.read(min(size, most))
                try:
                    return _Reader(content, size, str(path)).header()
                except struct.error:
                    continue
    except OSError as error:
        raise BadInput(f"cannot read {path}", found=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: the GGUF header is damaged", found="a name is no text") from error
    raise BadInput(
        f"{path}: the GGUF header is cut short", found=f"it goes on after {len(content)} bytes"
    )


@dataclass(slots=True)
class _Reader:
    """A position in the bytes of one header."""

    content: bytes
    file_bytes: int
    source: str
    position: int = 0
    metadata: dict[str, Value] = field(default_factory=dict)

    def header(self) -> GgufHeader:
        if self.content[:4] != MAGIC:
            raise BadInput(f"{self.source} is no GGUF file")
        self.position = 4
        version = self._scalar("I")
        if version not in (2, 3):
            raise self._bad(f"version {version}", "versions 2 and 3, little-endian")
        tensors, pairs = self._count("tensors", MAX_TENSORS), self._count("pairs", MAX_PAIRS)
        for _ in range(pairs):
            key = self._string()
            if key in self.metadata:
                raise self._bad(f"the key {key[:80]!r} twice", "one value for each key")
            self.metadata[key] = self._value(self._scalar("I"))
        found = [self._tensor() for _ in range(tensors)]
        self._check_data([span for _, span in found])
        return GgufHeader(self.source, self.metadata, tuple(tensor for tensor, _ in found))

    def _bad(self, found: str, works: str) -> BadInput:
        return BadInput(f"{self.source}: damaged GGUF header", found=found, works=works)

    def _scalar(self, code: str) -> int:
        value = struct.unpack_from(f"<{code}", self.content, self.position)[0]
        self.position += struct.calcsize(f"<{code}")
        return value  # type: ignore[no-any-return]

    def _count(self, what: str, most: int) -> int:
        count = self._scalar("Q")
        if count > most:
            raise self._bad(f"{count} {what}", f"at most {most}")
        return count

    def _string(self) -> str:
        length = self._count("bytes of text", MAX_STRING_BYTES)
        text = self.content[self.position : self.position + length]
        if len(text) < length:
            raise struct.error
        self.position += length
        return text.decode()

    def _value(self, kind: int) -> Value:
        if kind == ARRAY:
            return self._array()
        if kind == STRING:
            return self._string()
        if kind not in SCALARS:
            raise self._bad(f"a value of the type {kind}", "types 0 to 12")
        return self._scalar(SCALARS[kind])

    def _array(self) -> Value:
        kind, length = self._scalar("I"), self._scalar("Q")
        if kind == STRING:
            return self._strings(length)
        if kind not in SCALARS:
            raise self._bad(f"an array of the type {kind}", "arrays of scalars and strings")
        width = struct.calcsize(f"<{SCALARS[kind]}")
        if length > (len(self.content) - self.position) // width:
            raise struct.error
        start, self.position = self.position, self.position + length * width
        if length > KEPT_ITEMS:
            return Skipped(length)
        return list(struct.unpack_from(f"<{length}{SCALARS[kind]}", self.content, start))

    def _strings(self, length: int) -> Value:
        """Token lists: every length has to be read to find the end, the text is not kept."""
        if length > (len(self.content) - self.position) // 8:
            raise struct.error
        if length <= KEPT_ITEMS:
            return [self._string() for _ in range(length)]
        position, content, end = self.position, self.content, len(self.content)
        for _ in range(length):
            position += 8 + int.from_bytes(content[position : position + 8], "little")
            if position > end:
                raise struct.error
        self.position = position
        return Skipped(length)

    def _tensor(self) -> tuple[GgufTensor, tuple[int, int]]:
        name = self._string()
        count = self._scalar("I")
        if not 1 <= count <= MAX_DIMENSIONS:
            raise self._bad(f"{name[:80]!r} has {count} dimensions", f"1 to {MAX_DIMENSIONS}")
        dimensions = tuple(self._scalar("Q") for _ in range(count))
        kind, offset = self._scalar("I"), self._scalar("Q")
        if kind not in TENSOR_TYPES:
            raise self._bad(f"{name[:80]!r} has the type {kind}", "a known tensor type")
        type_name, elements, width = TENSOR_TYPES[kind]
        if min(dimensions) < 1 or max(dimensions) >= 1 << 40 or dimensions[0] % elements:
            raise self._bad(
                f"{name[:80]!r} has the dimensions {dimensions}",
                f"rows of a multiple of {elements} for {type_name}",
            )
        size = prod(dimensions) // elements * width
        return GgufTensor(name, type_name, dimensions, size), (offset, offset + size)

    def _check_data(self, spans: list[tuple[int, int]]) -> None:
        """Every tensor lies in the file and none on another; names are once."""
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self._bad(f"general.alignment is {alignment}", "1 to 1048576")
        start = -(-self.position // alignment) * alignment
        end = max((last for _, last in spans), default=0)
        if start + end > self.file_bytes:
            raise BadInput(
                f"{self.source} is cut short",
                found=f"{self.file_bytes} bytes",
                works=f"{start + end}",
                how="download it again",
            )
        spans.sort()
        for (_, last), (first, _) in pairwise(spans):
            if first < last:
                raise self._bad(f"two tensors overlap at byte {first}", "tensors side by side")
