"""Headers of safetensors files, honest and hostile, and exact weights from them."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig_runtime.errors import BadInput
from rig_runtime.memory import Load
from rig_runtime.models import read_shape
from rig_runtime.models.safetensors import read_header, read_tensors
from rig_runtime.models.shape import ModelShape
from rig_runtime.vllm_memory import VllmNeeds
from tests.runtime.made import LLAMA_TINY, model_directory

LAYER_TENSORS = {
    "self_attn.q_proj.weight": [128, 128],
    "self_attn.k_proj.weight": [64, 128],
    "self_attn.v_proj.weight": [64, 128],
    "self_attn.o_proj.weight": [128, 128],
    "mlp.gate_proj.weight": [256, 128],
    "mlp.up_proj.weight": [256, 128],
    "mlp.down_proj.weight": [128, 256],
    "input_layernorm.weight": [128],
    "post_attention_layernorm.weight": [128],
}
TENSORS = {
    "model.embed_tokens.weight": [448, 128],
    "lm_head.weight": [448, 128],
    "model.norm.weight": [128],
    **{
        f"model.layers.{layer}.{name}": shape
        for layer in range(2)
        for name, shape in LAYER_TENSORS.items()
    },
}


def header_of(tensors: dict[str, list[int]], width: int = 2, dtype: str = "BF16") -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors.items():
        end = position + prod(shape) * width
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    return header


def write(path: Path, header: dict[str, Any], data_bytes: int | None = None) -> Path:
    """A file whose data is a hole."""
    text = json.dumps(header).encode()
    if data_bytes is None:
        data_bytes = max(
            (v["data_offsets"][1] for k, v in header.items() if k[0] != "_"), default=0
        )
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + data_bytes)
    return path


def test_weights_are_exact_to_the_byte(tmp_path: Path) -> None:
    directory = model_directory(tmp_path, LLAMA_TINY)
    write(directory / "model.safetensors", header_of(TENSORS))
    made = read_shape(directory)
    assert made.weights_exact
    assert made.weights_bytes == 2 * sum(prod(shape) for shape in TENSORS.values())


def rank_weights(made: ModelShape, tensor: int) -> int:
    return VllmNeeds.of(made, tensor, 1, Load(16, 1)).ranks((2,), 16)[0].weights_bytes


def test_each_rank_holds_its_part(tmp_path: Path) -> None:
    directory = model_directory(tmp_path, LLAMA_TINY)
    write(directory / "model.safetensors", header_of(TENSORS))
    made = read_shape(directory)
    norms = 2 * sum(prod(shape) for name, shape in TENSORS.items() if "norm" in name)
    divided = made.weights_bytes - norms
    assert rank_weights(made, 2) == divided // 2 + norms
    kv = 2 * 4 * 64 * 128
    assert rank_weights(made, 4) == (divided - kv) // 4 + kv // 2 + norms


def test_what_is_not_of_the_decoder(tmp_path: Path) -> None:
    """Draft layers are not loaded, a vision tower is whole on every rank, experts are divided."""
    extra = {
        "model.layers.2.embed_tokens.weight": [448, 128],
        "mtp.layers.0.mlp.up_proj.weight": [256, 128],
        "visual.blocks.1.mlp.up_proj.weight": [64, 64],
        "model.layers.0.mlp.experts.3.up_proj.weight": [32, 128],
    }
    directory = model_directory(tmp_path, LLAMA_TINY)
    write(directory / "model.safetensors", header_of({**TENSORS, **extra}))
    made = read_shape(directory)
    own = 2 * sum(prod(shape) for shape in TENSORS.values())
    assert made.weights_bytes == own + 2 * (64 * 64 + 32 * 128)
    assert made.outer.whole_bytes == 2 * (128 + 64 * 64)
    assert made.layers[0].weights.expert_bytes == 2 * 32 * 128


def test_a_tied_head_in_the_file_is_not_loaded(tmp_path: Path) -> None:
    directory = model_directory(tmp_path, {**LLAMA_TINY, "tie_word_embeddings": True})
    write(directory / "model.safetensors", header_of(TENSORS))
    assert read_shape(directory).head_bytes == 0


def test_tensors_of_unknown_use_are_whole_and_said(tmp_path: Path) -> None:
    unknown = {"model.layers.0.mystery.weight": [1024, 1024]}
    directory = model_directory(tmp_path, LLAMA_TINY)
    write(directory / "model.safetensors", header_of({**TENSORS, **unknown}))
    made = read_shape(directory)
    assert made.layers[0].weights.whole_bytes >= 2 << 20
    assert made.notes == ("2 MiB of tensors of unknown use are counted on every rank",)


def test_split_files_with_an_index(tmp_path: Path) -> None:
    names = list(TENSORS)
    parts = {"a.safetensors": names[:9], "b.safetensors": names[9:]}
    directory = model_directory(tmp_path, LLAMA_TINY)
    for file, chosen in parts.items():
        write(directory / file, header_of({name: TENSORS[name] for name in chosen}))
    weight_map = {name: file for file, chosen in parts.items() for name in chosen}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    write(directory / "consolidated.safetensors", header_of(TENSORS))
    assert read_shape(directory).weights_bytes == 2 * sum(prod(s) for s in TENSORS.values())
    (directory / "b.safetensors").unlink()
    with pytest.raises(BadInput, match=r"1 of 2 weight files, b\.safetensors is missing"):
        read_shape(directory)


def test_the_same_tensor_in_two_files(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        write(tmp_path / name, header_of({"x": [4]}))
    with pytest.raises(BadInput, match="in two weight files"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "", "a/b"])
def test_an_index_may_not_leave_its_directory(tmp_path: Path, name: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": name}}))
    with pytest.raises(BadInput, match="without a directory"):
        read_tensors(tmp_path)


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8], **changes}}


HOSTILE: dict[str, tuple[dict[str, Any], int]] = {
    "cut short": (entry(), 4),
    "negative shape": (entry(shape=[-4]), 8),
    "absurd shape": (entry(shape=[1 << 62, 1 << 62]), 8),
    "shape of text": (entry(shape="4"), 8),
    "many dimensions": (entry(shape=[1] * 100), 8),
    "unknown type": (entry(dtype="X1"), 8),
    "type of list": (entry(dtype=["BF16"]), 8),
    "offsets reversed": (entry(data_offsets=[8, 0]), 8),
    "offsets outside": (entry(data_offsets=[1 << 60, (1 << 60) + 8]), 8),
    "three offsets": (entry(data_offsets=[0, 8, 8]), 8),
    "no object": ({"x": 4}, 8),
    "overlap": ({**entry(), "y": {"dtype": "BF16", "shape": [4], "data_offsets": [4, 12]}}, 12),
}


@pytest.mark.parametrize(("header", "data_bytes"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused(
    tmp_path: Path, header: dict[str, Any], data_bytes: int
) -> None:
    with pytest.raises(BadInput):
        read_header(write(tmp_path / "x.safetensors", header, data_bytes))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), length=st.integers(0, 1 << 64) | st.just(0))
def test_no_file_ends_in_a_traceback(tmp_path: Path, content: bytes, length: int) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((length % (1 << 64)).to_bytes(8, "little") + content)
    try:
        read_header(path)
    except BadInput:
        return
