"""GGUF headers, honest and hostile: exact tensors, bounded reading, one message."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rig_runtime.errors import BadInput
from rig_runtime.models import read_shape
from rig_runtime.models.gguf import TENSOR_TYPES, read_gguf
from tests.runtime import gguf_files

SMALL: dict[str, Any] = {
    "layers": 2,
    "hidden": 64,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "ffn": 128,
    "vocabulary": 320,
    "context": 4096,
}


def small(**more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return gguf_files.dense("llama", **{**SMALL, **more})


def test_sizes_are_those_of_the_tensors(tmp_path: Path) -> None:
    metadata, tensors = small()
    made = read_shape(gguf_files.write(tmp_path / "small.gguf", metadata, tensors))
    assert made.name == "small"
    assert made.source == "gguf"
    assert made.weights_exact
    assert made.weights_bytes == sum(gguf_files.tensor_bytes(*each) for each in tensors.values())
    assert made.max_position_embeddings == 4096
    attention = made.layers[0].attention
    assert attention is not None
    assert (attention.kv_heads, attention.key_dim, attention.value_dim) == (2, 16, 16)


@pytest.mark.parametrize("kind", [name for name, _, _ in TENSOR_TYPES.values()])
def test_every_tensor_type(tmp_path: Path, kind: str) -> None:
    tensors = {"token_embd.weight": (kind, (256, 16))}
    header = read_gguf(gguf_files.write(tmp_path / "x.gguf", {}, tensors))
    assert header.tensors[0].bytes == gguf_files.tensor_bytes(kind, (256, 16))


def test_a_tied_head_is_a_second_copy_on_the_card(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "x.gguf", *small(tied=True))
    made = read_shape(path)
    assert made.head_bytes == made.embedding_bytes > 0


def test_sliding_layers_by_architecture(tmp_path: Path) -> None:
    files = gguf_files.dense("gemma3", **{**SMALL, "layers": 12}, attention__sliding_window=512)
    made = read_shape(gguf_files.write(tmp_path / "x.gguf", *files))
    kinds = [layer.attention.kind for layer in made.layers if layer.attention]
    assert kinds == ["sliding"] * 5 + ["full"] + ["sliding"] * 5 + ["full"]


def test_sliding_layers_by_a_list(tmp_path: Path) -> None:
    pattern: dict[str, Any] = {"attention__sliding_window_pattern": [True, False]}
    files = gguf_files.dense("new", **SMALL, attention__sliding_window=512, **pattern)
    made = read_shape(gguf_files.write(tmp_path / "x.gguf", *files))
    assert [layer.attention.kind for layer in made.layers if layer.attention] == ["sliding", "full"]


def test_an_unknown_architecture_with_a_window_counts_as_full_and_says_so(tmp_path: Path) -> None:
    files = gguf_files.dense("new", **SMALL, attention__sliding_window=512)
    made = read_shape(gguf_files.write(tmp_path / "x.gguf", *files))
    assert all(layer.attention and layer.attention.kind == "full" for layer in made.layers)
    assert "all count as full" in made.notes[0]


def test_heads_that_differ_from_layer_to_layer(tmp_path: Path) -> None:
    metadata, tensors = small()
    metadata["llama.attention.head_count_kv"] = [4, 1]
    made = read_shape(gguf_files.write(tmp_path / "x.gguf", metadata, tensors))
    assert [layer.attention.kv_heads for layer in made.layers if layer.attention] == [4, 1]


def test_recurrent_layers_are_those_with_a_state(tmp_path: Path) -> None:
    more = {"ssm__inner_size": 128, "ssm__state_size": 16, "ssm__group_count": 2}
    metadata, tensors = small(**more, ssm__conv_kernel=4)
    tensors = {k: v for k, v in tensors.items() if not k.startswith("blk.1.attn_")}
    tensors["blk.1.ssm_in.weight"] = ("Q8_0", (64, 256))
    made = read_shape(gguf_files.write(tmp_path / "x.gguf", metadata, tensors))
    assert made.layers[0].recurrent is None
    assert made.layers[1].attention is None
    state = made.layers[1].recurrent
    assert state is not None
    assert (state.conv_elements, state.state_elements) == (3 * (128 + 2 * 2 * 16), 16 * 128)


def test_experts_are_told_apart(tmp_path: Path) -> None:
    metadata, tensors = small(expert_count=8, expert_used_count=2)
    tensors["blk.0.ffn_up_exps.weight"] = ("Q8_0", (64, 128, 8))
    made = read_shape(gguf_files.write(tmp_path / "x.gguf", metadata, tensors))
    assert made.layers[0].weights.expert_bytes == 64 * 128 * 8 * 34 // 32
    assert (made.num_experts, made.experts_per_token) == (8, 2)


def test_a_split_model_is_all_of_its_files(tmp_path: Path) -> None:
    metadata, tensors = small()
    names = list(tensors)
    first = {name: tensors[name] for name in names[:8]}
    second = {name: tensors[name] for name in names[8:]}
    count = {"split.count": 2, "split.tensors.count": len(tensors)}
    gguf_files.write(tmp_path / "m-00001-of-00002.gguf", {**metadata, **count}, first)
    gguf_files.write(tmp_path / "m-00002-of-00002.gguf", {"split.no": 1}, second)
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf"):
        made = read_shape(tmp_path / name)
        assert made.weights_bytes == sum(gguf_files.tensor_bytes(*t) for t in tensors.values())
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(BadInput, match=r"m-00002-of-00002\.gguf is missing"):
        read_shape(tmp_path / "m-00001-of-00002.gguf")


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    for number in (1, 2):
        gguf_files.write(tmp_path / f"m-0000{number}-of-00002.gguf", *small())
    with pytest.raises(BadInput, match="twice"):
        read_shape(tmp_path / "m-00001-of-00002.gguf")


@pytest.mark.parametrize("name", ["m-00001-of-99999.gguf", "m-00001-of-00000.gguf"])
def test_an_absurd_number_of_files(tmp_path: Path, name: str) -> None:
    path = gguf_files.write(tmp_path / name, *small())
    with pytest.raises(BadInput, match="1 to 256"):
        read_shape(path)


def packed(version: int = 3, tensors: int = 0, pairs: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def pair(kind: int, value: bytes) -> bytes:
    return gguf_files.text("a.b") + struct.pack("<I", kind) + value


def tensor(
    dimensions: list[int], kind: int = 0, offset: int = 0, count: int | None = None
) -> bytes:
    head = gguf_files.text("t") + struct.pack("<I", len(dimensions) if count is None else count)
    sizes = struct.pack(f"<{len(dimensions)}Q", *dimensions)
    return head + sizes + struct.pack("<IQ", kind, offset)


HUGE = (1 << 64) - 1
HOSTILE = {
    "empty": b"",
    "another file": b"PK\x03\x04" * 10,
    "version 1": packed(version=1),
    "big endian": packed(version=3 << 24),
    "absurd tensors": packed(tensors=HUGE),
    "absurd pairs": packed(pairs=HUGE),
    "text without end": packed(pairs=1, rest=struct.pack("<Q", HUGE)),
    "text cut short": packed(pairs=1, rest=struct.pack("<Q", 1000) + b"x"),
    "a name that is no text": packed(pairs=1, rest=struct.pack("<Q", 1) + b"\xff"),
    "unknown type": packed(pairs=1, rest=pair(77, b"")),
    "absurd array": packed(pairs=1, rest=pair(9, struct.pack("<IQ", 4, HUGE))),
    "absurd list of text": packed(pairs=1, rest=pair(9, struct.pack("<IQ", 8, HUGE))),
    "long list of text that ends": packed(
        pairs=1, rest=pair(9, struct.pack("<IQ", 8, 5000) + b"\xff" * 40000)
    ),
    "array of arrays": packed(pairs=1, rest=pair(9, struct.pack("<IQ", 9, 1)) * 1000),
    "the same key twice": packed(pairs=2, rest=pair(4, b"\0" * 4) * 2),
    "no dimensions": packed(tensors=1, rest=tensor([])),
    "many dimensions": packed(tensors=1, rest=tensor([1], count=1 << 31)),
    "dimension zero": packed(tensors=1, rest=tensor([0])),
    "absurd dimension": packed(tensors=1, rest=tensor([1 << 63, 1 << 63])),
    "unknown tensor type": packed(tensors=1, rest=tensor([32], kind=1000)),
    "row that is no multiple": packed(tensors=1, rest=tensor([33], kind=8)),
    "data beyond the file": packed(tensors=1, rest=tensor([32], offset=1 << 40)),
    "overlap": packed(tensors=2, rest=tensor([32]) + tensor([32]) + b"\0" * 1000),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_one_message_and_little_memory(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(BadInput):
        read_shape(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


WRONG = {
    "no architecture": {"general.architecture": None},
    "architecture that is a number": {"general.architecture": 4},
    "no layers": {"llama.block_count": None},
    "absurd layers": {"llama.block_count": 1 << 30},
    "more layers than tensors": {"llama.block_count": 3},
    "too few heads in a list": {"llama.attention.head_count_kv": [1]},
    "no context": {"llama.context_length": None},
    "text for a number": {"llama.embedding_length": "wide"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_wrong_metadata_is_one_message(tmp_path: Path, changes: dict[str, Any]) -> None:
    metadata, tensors = small()
    changed = {k: v for k, v in {**metadata, **changes}.items() if v is not None}
    with pytest.raises(BadInput):
        read_shape(gguf_files.write(tmp_path / "x.gguf", changed, tensors))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_damaged_header_ends_in_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    """Any byte changed, or the file cut anywhere."""
    content, data_bytes = gguf_files.header(*small())
    broken = bytearray(content)
    for _ in range(data.draw(st.integers(0, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x.gguf"
    path.write_bytes(broken[: data.draw(st.integers(0, len(broken)))])
    os.truncate(path, path.stat().st_size + data.draw(st.sampled_from([0, data_bytes])))
    try:
        read_shape(path)
    except BadInput:
        return
