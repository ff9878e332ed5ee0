"""GGUF files whose tensor data is a hole: what a planner needs of a model, in a few KB."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig_runtime.models.gguf import TENSOR_TYPES

TYPE_CODES = {name: code for code, (name, _, _) in TENSOR_TYPES.items()}
Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> type and dimensions, the row length first."""

LAYER = {
    "attn_norm": "1",
    "attn_q": "q",
    "attn_k": "kv",
    "attn_v": "kv",
    "attn_output": "o",
    "ffn_norm": "1",
    "ffn_gate": "up",
    "ffn_up": "up",
    "ffn_down": "down",
}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value_of(value: Any) -> bytes:
    """A metadata value: whole numbers as uint32, lists by their first item."""
    kind, packed = typed(value)
    return struct.pack("<I", kind) + packed


def typed(value: Any) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, text(value)
    kind = typed(value[0])[0] if value else 4
    items = b"".join(typed(item)[1] for item in value)
    return 9, struct.pack("<IQ", kind, len(value)) + items


def tensor_bytes(kind: str, dimensions: tuple[int, ...]) -> int:
    _, elements, width = TENSOR_TYPES[TYPE_CODES[kind]]
    total = 1
    for size in dimensions:
        total *= size
    return total // elements * width


def header(metadata: Mapping[str, Any], tensors: Tensors) -> tuple[bytes, int]:
    """The header, padded, and how many bytes of data follow it."""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    out += [text(key) + value_of(value) for key, value in metadata.items()]
    position = 0
    for name, (kind, dimensions) in tensors.items():
        out.append(text(name) + struct.pack("<I", len(dimensions)))
        out.append(struct.pack(f"<{len(dimensions)}Q", *dimensions))
        out.append(struct.pack("<IQ", TYPE_CODES[kind], position))
        position += -(-tensor_bytes(kind, dimensions) // 32) * 32
    content = b"".join(out)
    return content + b"\0" * (-len(content) % 32), position


def write(path: Path, metadata: Mapping[str, Any], tensors: Tensors) -> Path:
    content, data_bytes = header(metadata, tensors)
    with path.open("wb") as file:
        file.write(content)
        file.truncate(len(content) + data_bytes)
    return path


def dense(
    architecture: str,
    *,
    layers: int,
    hidden: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    ffn: int,
    vocabulary: int,
    context: int,
    kind: str = "Q8_0",
    tied: bool = False,
    **more: Any,
) -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...]]]]:
    """Metadata and tensors of a model like Llama; `more` are keys of the architecture."""
    metadata = {
        "general.architecture": architecture,
        f"{architecture}.block_count": layers,
        f"{architecture}.embedding_length": hidden,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": kv_heads,
        f"{architecture}.attention.key_length": head_dim,
        f"{architecture}.attention.value_length": head_dim,
        f"{architecture}.feed_forward_length": ffn,
        f"{architecture}.context_length": context,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-6,
        **{f"{architecture}.{key.replace('__', '.')}": value for key, value in more.items()},
    }
    sizes = {
        "1": ("F32", (hidden,)),
        "q": (kind, (hidden, heads * head_dim)),
        "kv": (kind, (hidden, kv_heads * head_dim)),
        "o": (kind, (heads * head_dim, hidden)),
        "up": (kind, (hidden, ffn)),
        "down": (kind, (ffn, hidden)),
    }
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        "token_embd.weight": (kind, (hidden, vocabulary)),
        "output_norm.weight": ("F32", (hidden,)),
    }
    if not tied:
        tensors["output.weight"] = (kind, (hidden, vocabulary))
    for layer in range(layers):
        for name, size in LAYER.items():
            tensors[f"blk.{layer}.{name}.weight"] = sizes[size]
    return metadata, tensors


def qwen_7b(kind: str = "Q8_0") -> tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...]]]]:
    """DeepSeek-R1-Distill-Qwen-7B, with the biases of its q, k and v."""
    metadata, tensors = dense(
        "qwen2",
        layers=28,
        hidden=3584,
        heads=28,
        kv_heads=4,
        head_dim=128,
        ffn=18944,
        vocabulary=152064,
        context=131072,
        kind=kind,
    )
    for layer in range(28):
        tensors[f"blk.{layer}.attn_q.bias"] = ("F32", (3584,))
        tensors[f"blk.{layer}.attn_k.bias"] = ("F32", (512,))
        tensors[f"blk.{layer}.attn_v.bias"] = ("F32", (512,))
    return metadata, tensors
