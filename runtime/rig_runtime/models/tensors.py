"""Names of tensors -> the way vLLM holds them: exact weights in place of computed ones.

By the module a tensor belongs to, the same words in all families. A tensor whose module is not
known is counted whole on every rank, which is never too little, and said in a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from rig_runtime.errors import BadInput
from rig_runtime.models.safetensors import Tensor
from rig_runtime.models.shape import Layer, ModelShape, Weights
from rig_runtime.units import MIB, size

Role = Literal["split", "row", "kv", "qkv", "whole"]

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
TOWERS = ("vision", "visual", "audio", "multi_modal_projector", "mm_projector", "image_newline")
"""Beside the decoder: whole on every rank."""

DRAFTS = ("mtp.", "model.mtp.", "eagle.")
"""Draft layers for speculative decoding: not loaded without it."""

EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embeddings")
HEADS = ("lm_head", "output")

ROLES: dict[str, Role] = {
    "q_proj": "split",
    "q_b_proj": "split",
    "kv_b_proj": "split",
    "k_proj": "kv",
    "v_proj": "kv",
    "qkv_proj": "qkv",
    "c_attn": "qkv",
    "query_key_value": "qkv",
    "o_proj": "row",
    "q_a_proj": "whole",
    "kv_a_proj_with_mqa": "whole",
    "sinks": "split",
    "gate_proj": "split",
    "up_proj": "split",
    "gate_up_proj": "split",
    "down_proj": "row",
    "c_fc": "split",
    "c_proj": "row",
    "fc1": "split",
    "fc2": "row",
    "in_proj": "split",
    "in_proj_qkvz": "split",
    "in_proj_qkv": "split",
    "in_proj_z": "split",
    "in_proj_a": "split",
    "in_proj_b": "split",
    "in_proj_ba": "split",
    "out_proj": "row",
    "x_proj": "row",
    "dt_proj": "split",
    "conv1d": "split",
    "A_log": "split",
    "D": "split",
    "dt_bias": "split",
    "gate": "whole",
    "router": "whole",
    "shared_expert_gate": "whole",
    "e_score_correction_bias": "whole",
}


def with_exact_weights(shape: ModelShape, tensors: Iterable[Tensor]) -> ModelShape:
    """The shape with the bytes of its checkpoint in place of those computed from its sizes."""
    layers = [Weights() for _ in shape.layers]
    outer, embedding, head, unknown = Weights(), 0, 0, 0
    for tensor in tensors:
        held = _held_bytes(tensor, shape)
        number = _layer_number(tensor.name)
        if tensor.name.startswith(DRAFTS) or (number is not None and number >= len(layers)):
            continue
        if number is not None:
            weights, known = _layer_weights(tensor.name, held, shape)
            layers[number] += weights
            unknown += 0 if known else held
        elif _names(tensor.name, EMBEDDINGS):
            embedding += held
        elif _names(tensor.name, HEADS):
            head += 0 if shape.tied else held
        else:
            outer += Weights(whole_bytes=held)
    _check_complete(shape, layers)
    notes = shape.notes
    if unknown > MIB:
        notes += (f"{size(unknown)} of tensors of unknown use are counted on every rank",)
    return replace(
        shape,
        layers=tuple(
            Layer(weights, layer.attention, layer.recurrent)
            for weights, layer in zip(layers, shape.layers, strict=True)
        ),
        embedding_bytes=embedding or shape.embedding_bytes,
        head_bytes=head,
        outer=outer,
        weights_exact=True,
        notes=notes,
    )


def _check_complete(shape: ModelShape, layers: list[Weights]) -> None:
    """Refuse weights of which a part is missing: they would be planned too small."""
    empty = [number for number, weights in enumerate(layers) if not weights.total_bytes]
    if empty:
        raise BadInput(
            f"the weight files of {shape.name} are incomplete",
            found=f"no tensor of layer {empty[0]} of {len(layers)} is in them",
            works="all weight files, or none: weights are then computed from the configuration",
            how="download the model again",
        )


def _held_bytes(tensor: Tensor, shape: ModelShape) -> int:
    """A float32 checkpoint is served in 16 bits; what is float32 in another one stays so."""
    halves = shape.dtype == "float32" and tensor.dtype == "F32"
    return tensor.bytes // 2 if halves else tensor.bytes


def _layer_number(name: str) -> int | None:
    """The decoder layer that a tensor belongs to; None for one outside the decoder's layers."""
    if any(tower in name for tower in TOWERS):
        return None
    found = LAYER.search(name)
    return int(found.group(1)[:9]) if found else None


def _layer_weights(name: str, held: int, shape: ModelShape) -> tuple[Weights, bool]:
    """The bytes of a layer's tensor by the way it is divided, and whether that is known."""
    modules = name.split(".")
    if "experts" in modules:
        return Weights(expert_bytes=held), True
    role = next((ROLES[module] for module in reversed(modules) if module in ROLES), None)
    if role is None:
        return Weights(whole_bytes=held), "norm" in name or held <= MIB
    if role == "qkv":
        kv_heads = max(shape.kv_head_counts, default=shape.num_attention_heads)
        kv = held * 2 * kv_heads // (shape.num_attention_heads + 2 * kv_heads)
        return Weights(split_bytes=held - kv, kv_bytes=kv), True
    if role == "kv":
        return Weights(kv_bytes=held), True
    if role == "whole" or (role == "row" and modules[-1] == "bias"):
        return Weights(whole_bytes=held), True
    return Weights(split_bytes=held), True


def _names(name: str, modules: tuple[str, ...]) -> bool:
    if any(tower in name for tower in TOWERS):
        return False
    return any(module in modules for module in name.split("."))
