"""The tiny model: the same bytes for the same seed, files that engines load, readable answers."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig_runtime import models, tiny_model

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.make(tmp_path_factory.mktemp("tiny"))


def tensors(directory: Path) -> dict[str, tuple[list[int], bytes]]:
    """An own reader of the safetensors format."""
    data = (directory / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    del header["__metadata__"]
    ends = sorted(entry["data_offsets"] for entry in header.values())
    assert [start for start, _ in ends] == [0, *(end for _, end in ends[:-1])]
    assert ends[-1][1] == len(body)
    return {
        name: (entry["shape"], body[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def test_all_files_are_there_and_small(model: Path) -> None:
    assert {path.name for path in model.iterdir()} == FILES
    assert sum(path.stat().st_size for path in model.iterdir()) < 4 << 20


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_weights(
    model: Path, tmp_path: Path
) -> None:
    again = tiny_model.make(tmp_path / "again")
    other = tiny_model.make(tmp_path / "other", seed=1)
    for name in FILES:
        assert (model / name).read_bytes() == (again / name).read_bytes()
    weights = "model.safetensors"
    assert (model / weights).read_bytes() != (other / weights).read_bytes()


def test_the_bytes_are_those_of_every_machine(model: Path) -> None:
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "815d2ad98cc813388e436de19d51aebc482a1b43b6c69f083071608224f82f96"


def test_shapes_agree_with_the_configuration(model: Path) -> None:
    for name, (shape, data) in tensors(model).items():
        assert len(data) == 2 * math.prod(shape), name


def test_the_planner_reads_it(model: Path) -> None:
    shape = models.read_shape(model)
    assert shape.max_position_embeddings == tiny_model.CONTEXT_TOKENS


def test_weights_are_finite(model: Path) -> None:
    for name, (_, data) in tensors(model).items():
        assert all(map(math.isfinite, struct.unpack(f"<{len(data) // 2}e", data))), name


def test_no_layer_writes_to_the_constant_dimension(model: Path) -> None:
    for name, (shape, data) in tensors(model).items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            assert data[: 2 * shape[1]] == bytes(2 * shape[1]), name


def vocabulary(model: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]
    return found


def test_every_identifier_has_one_token(model: Path) -> None:
    identifiers = sorted(vocabulary(model).values())
    assert identifiers == list(range(tiny_model.VOCABULARY_SIZE))


@given(st.text())
def test_any_text_can_be_encoded(text: str) -> None:
    letters = tiny_model._byte_letters()
    assert len(set(letters)) == 256
    assert bytes(letters.index(letters[byte]) for byte in text.encode()) == text.encode()
