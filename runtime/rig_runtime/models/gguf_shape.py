"""GGUF header -> ModelShape, as llama.cpp holds it: by the tensors that each layer has.

Which layers attend, which have a state, which have experts is read off the tensor table; metadata
only gives the sizes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rig_runtime.errors import BadInput, printable
from rig_runtime.models.fields import Fields
from rig_runtime.models.gguf import GgufHeader, GgufTensor, Skipped, read_gguf
from rig_runtime.models.shape import Attention, Layer, ModelShape, Quantisation, Recurrent, Weights

MAX_LAYERS = 2048
ARCHITECTURE = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
BLOCK = re.compile(r"^blk\.(\d{1,6})\.(.+)$")

WINDOW_PATTERNS = {
    "gemma2": 2,
    "gemma3": 6,
    "gpt-oss": 2,
    "cohere2": 4,
    "olmo3": 4,
    "exaone4": 4,
    "smallthinker": 4,
}
"""Every n-th layer is full: llama.cpp sets it by architecture where the file has no pattern."""

WINDOW_IGNORED = ("phi3", "llama", "qwen2", "qwen2moe", "starcoder2")
"""Architectures for which llama.cpp keeps all tokens although the file names a window."""


def read_gguf_shape(path: Path) -> ModelShape:
    """A GGUF file or the first of several. Raises BadInput."""
    return shape_from_header(read_gguf(path), printable(path.name.removesuffix(".gguf"), 200))


def shape_from_header(header: GgufHeader, name: str) -> ModelShape:
    """The shape of a model from its header alone. Raises BadInput."""
    model = _Model.of(header)
    text = model.text
    blocks = model.blocks()
    rest = [tensor for tensor in header.tensors if not tensor.name.startswith("blk.")]
    embedding = next((t for t in rest if t.name == "token_embd.weight"), None)
    if embedding is None or len(embedding.dimensions) != 2:
        raise BadInput(f"{header.source} has no token_embd.weight of two dimensions")
    head = next((t for t in rest if t.name == "output.weight"), embedding)
    hidden = text.integer("embedding_length", high=1 << 20)
    outer = sum(t.bytes for t in rest if t.name not in (embedding.name, head.name))
    return ModelShape(
        name=name,
        source="gguf",
        dtype="float16",
        hidden_size=hidden,
        vocab_size=embedding.dimensions[1],
        num_attention_heads=max(model.per_layer("attention.head_count", 1)),
        max_position_embeddings=text.integer("context_length", high=1 << 31),
        layers=tuple(model.layer(number, tensors) for number, tensors in enumerate(blocks)),
        matrices=(),
        divisible=(),
        embedding_bytes=embedding.bytes,
        head_bytes=head.bytes,
        outer=Weights(whole_bytes=outer),
        widest_ffn=max(model.per_layer("feed_forward_length", 0)),
        quantisation=_quantisation(header.tensors),
        num_experts=text.integer("expert_count", default=0, low=0, high=1 << 16),
        experts_per_token=text.integer("expert_used_count", default=0, low=0, high=1 << 16),
        weights_exact=True,
        notes=model.notes(),
    )


def _quantisation(tensors: tuple[GgufTensor, ...]) -> Quantisation | None:
    """The type that most bytes are in."""
    by_type: dict[str, int] = {}
    for tensor in tensors:
        by_type[tensor.type] = by_type.get(tensor.type, 0) + tensor.bytes
    most = max(by_type, key=lambda name: by_type[name], default="F16")
    return None if most in ("F16", "BF16", "F32") else Quantisation(most, 0, (5, 0))


@dataclass(frozen=True)
class _Model:
    """One architecture's part of the metadata."""

    header: GgufHeader
    architecture: str
    text: Fields

    @staticmethod
    def of(header: GgufHeader) -> _Model:
        architecture = header.metadata.get("general.architecture")
        if not isinstance(architecture, str) or not ARCHITECTURE.match(architecture):
            raise BadInput(
                f"{header.source} does not say its general.architecture",
                found=repr(architecture)[:80],
                works="a name such as 'llama'",
            )
        prefix = f"{architecture}."
        values = {
            key.removeprefix(prefix): value
            for key, value in header.metadata.items()
            if key.startswith(prefix) and not isinstance(value, Skipped)
        }
        return _Model(header, architecture, Fields(values, f"{header.source}: {architecture}"))

    def blocks(self) -> list[list[GgufTensor]]:
        """The tensors of each layer; layers beyond block_count are for drafting and left out."""
        count = self.text.integer("block_count", high=MAX_LAYERS)
        drafts = self.text.integer("nextn_predict_layers", default=0, low=0, high=count)
        blocks: list[list[GgufTensor]] = [[] for _ in range(count - drafts)]
        for tensor in self.header.tensors:
            found = BLOCK.match(tensor.name)
            if found and int(found[1]) < len(blocks):
                blocks[int(found[1])].append(tensor)
        if empty := [number for number, tensors in enumerate(blocks) if not tensors]:
            raise BadInput(f"{self.header.source}: layer {empty[0]} of {count} has no tensors")
        return blocks

    def per_layer(self, key: str, least: int) -> tuple[int, ...]:
        """A value that may be one number for all layers or a list of one for each."""
        count = self.text.integer("block_count", high=MAX_LAYERS)
        if not isinstance(self.text.values.get(key), list):
            return (self.text.integer(key, default=least or None, low=least, high=1 << 24),) * count
        values = self.text.integers(key) or ()
        if len(values) < count or min(values) < 0 or max(values) > 1 << 24:
            raise BadInput(f"{self.text.source}: {key} lists {len(values)} of {count} layers")
        return values[:count]

    def layer(self, number: int, tensors: list[GgufTensor]) -> Layer:
        parts = {tensor.name.split(".", 2)[2] for tensor in tensors}
        experts = sum(tensor.bytes for tensor in tensors if "_exps." in tensor.name)
        rest = sum(tensor.bytes for tensor in tensors) - experts
        return Layer(
            Weights(split_bytes=rest, expert_bytes=experts),
            self._attention(number, parts),
            self._recurrent(parts),
        )

    def _attention(self, number: int, parts: set[str]) -> Attention | None:
        recurrent = any(part.startswith("ssm_") for part in parts)
        attends = {"attn_k.weight", "attn_kv_a_mqa.weight"} | (
            set() if recurrent else {"attn_qkv.weight", "attn_q.weight"}
        )
        if not attends & parts:
            return None
        text = self.text
        shared = text.integer("attention.shared_kv_layers", default=0, low=0, high=MAX_LAYERS)
        stores = number < text.integer("block_count", high=MAX_LAYERS) - shared
        if text.has("attention.kv_lora_rank") and text.has("attention.key_length_mla"):
            latent = text.integer("attention.kv_lora_rank", high=1 << 16)
            rope = text.integer("rope.dimension_count", high=1 << 16)
            return Attention("mla", 1, latent + rope, 0, stores=stores)
        window = self._window(number)
        key, value = self._widths(number, sliding=window is not None)
        heads = self.per_layer("attention.head_count_kv", 0)[number]
        if not heads:
            return None
        if window is None:
            return Attention("full", heads, key, value, None, stores)
        return Attention("sliding", heads, key, value, window, stores)

    def _widths(self, number: int, *, sliding: bool) -> tuple[int, int]:
        """The width of a key and of a value; sliding layers may have their own."""
        text, suffix = self.text, "_swa" if sliding else ""
        heads = self.per_layer("attention.head_count", 1)[number]
        usual = max(1, text.integer("embedding_length", high=1 << 20) // max(1, heads))
        key = text.integer("attention.key_length", default=usual, high=1 << 16)
        value = text.integer("attention.value_length", default=usual, high=1 << 16)
        return (
            text.integer(f"attention.key_length{suffix}", default=key, high=1 << 16),
            text.integer(f"attention.value_length{suffix}", default=value, high=1 << 16),
        )

    def _window(self, number: int) -> int | None:
        """The sliding window of a layer; None where it keeps all tokens."""
        size = self.text.integer("attention.sliding_window", default=0, low=0, high=1 << 31)
        if not size or self.architecture in WINDOW_IGNORED:
            return None
        stated = self.text.values.get("attention.sliding_window_pattern")
        if isinstance(stated, list):
            return size if number < len(stated) and stated[number] else None
        every = WINDOW_PATTERNS.get(self.architecture, 0)
        if stated is not None:
            every = self.text.integer("attention.sliding_window_pattern", high=MAX_LAYERS)
        return size if every and (number + 1) % every else None

    def _recurrent(self, parts: set[str]) -> Recurrent | None:
        """llama.cpp's n_embd_r and n_embd_s: the same form for Mamba and gated delta nets."""
        if not any(part.startswith("ssm_") for part in parts):
            return None
        text = self.text
        inner = text.integer("ssm.inner_size", high=1 << 24)
        state = text.integer("ssm.state_size", high=1 << 20)
        groups = text.integer("ssm.group_count", default=0, low=0, high=1 << 16)
        kernel = text.integer("ssm.conv_kernel", high=1 << 10)
        conv = (kernel - 1) * (inner + 2 * groups * state)
        return Recurrent("mamba2" if groups else "mamba1", conv, state * inner)

    def notes(self) -> tuple[str, ...]:
        window = self.text.integer("attention.sliding_window", default=0, low=0, high=1 << 31)
        known = (
            self.architecture in WINDOW_PATTERNS
            or self.architecture in WINDOW_IGNORED
            or self.text.has("attention.sliding_window_pattern")
        )
        if window and not known:
            return (f"which layers of {self.architecture} slide is not known: all count as full",)
        return ()
