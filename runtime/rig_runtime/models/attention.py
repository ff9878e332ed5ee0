"""Attention blocks: what a layer caches for each token, and its projections."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rig_runtime.errors import BadInput
from rig_runtime.models.fields import Fields
from rig_runtime.models.layers import LayerKind
from rig_runtime.models.shape import Attention, Matrix

MAX_HEADS = 1 << 14
MAX_HEAD_DIM = 1 << 14


@dataclass(frozen=True, slots=True)
class Heads:
    """The head counts and width of one kind of layer."""

    attention: int
    kv: int
    dim: int
    shares_value: bool = False
    """No v_proj: the keys are the values. Both are cached all the same."""


def read_heads(text: Fields, hidden: int) -> Heads:
    """`head_dim` where the configuration has it; hidden/heads only where it has not."""
    attention = text.integer("num_attention_heads", "n_head", high=MAX_HEADS)
    kv = text.integer("num_key_value_heads", default=attention, high=MAX_HEADS)
    if attention % kv:
        raise BadInput(
            f"{text.source}: num_attention_heads {attention} is not a multiple of "
            f"num_key_value_heads {kv}"
        )
    if not text.has("head_dim", "kv_lora_rank") and hidden % attention:
        raise BadInput(
            f"{text.source}: hidden_size {hidden} is not a multiple of num_attention_heads "
            f"{attention}",
            works="a head_dim must then say how wide a head is",
        )
    dim = text.integer("head_dim", default=max(1, hidden // attention), high=MAX_HEAD_DIM)
    return Heads(attention, kv, dim)


def heads_of_kind(text: Fields, heads: Heads, kind: LayerKind) -> Heads:
    """The heads of one kind of layer: full layers may have their own (`global_head_dim`), and a
    per-layer list may say other KV heads."""
    if kind.kv_heads is not None:
        return replace(heads, kv=kind.kv_heads)
    if kind.mixer != "full" or not text.has("global_head_dim", "num_global_key_value_heads"):
        return heads
    return Heads(
        heads.attention,
        text.integer("num_global_key_value_heads", default=heads.kv, high=heads.attention),
        text.integer("global_head_dim", default=heads.dim, high=MAX_HEAD_DIM),
        shares_value=text.flag("attention_k_eq_v", False),
    )


def attention_of(text: Fields, heads: Heads, kind: LayerKind) -> Attention | None:
    """What a layer of this kind caches; None for a layer without attention."""
    if kind.mixer == "mla":
        latent = text.integer("kv_lora_rank", high=1 << 16)
        rope = text.integer("qk_rope_head_dim", high=MAX_HEAD_DIM)
        return Attention("mla", 1, latent + rope, 0, stores=kind.stores)
    if kind.mixer == "sliding":
        window = text.integer("sliding_window", high=1 << 31)
        return Attention("sliding", heads.kv, heads.dim, heads.dim, window, kind.stores)
    if kind.mixer == "full":
        return Attention("full", heads.kv, heads.dim, heads.dim, None, kind.stores)
    return None


def projections(text: Fields, heads: Heads, kind: LayerKind, hidden: int) -> tuple[Matrix, ...]:
    """The matrices of a layer's attention."""
    if kind.mixer == "mla":
        return _latent_projections(text, heads, hidden)
    if kind.mixer in ("full", "sliding"):
        return _grouped_projections(text, heads, kind, hidden)
    return ()


def _grouped_projections(
    text: Fields, heads: Heads, kind: LayerKind, hidden: int
) -> tuple[Matrix, ...]:
    """q, k, v and o. Qwen2's classes give q, k and v a bias and o none, whatever a key says."""
    stated = text.flag("attention_bias", False)
    only_qkv = text.flag("qkv_bias", False)
    bias = stated or only_qkv
    width, kv_width = heads.attention * heads.dim, heads.kv * heads.dim
    gate = 2 if text.flag("attn_output_gate", False) else 1
    matrices = [
        Matrix("self_attn.q_proj", gate * width, hidden, "column", bias=bias),
        Matrix("self_attn.o_proj", hidden, width, "row", bias=stated and not only_qkv),
    ]
    names = ("k_proj",) if heads.shares_value else ("k_proj", "v_proj")
    if kind.stores:
        matrices += [
            Matrix(f"self_attn.{name}", kv_width, hidden, "kv", bias=bias, heads=heads.kv)
            for name in names
        ]
    return tuple(matrices)


def _latent_projections(text: Fields, heads: Heads, hidden: int) -> tuple[Matrix, ...]:
    """MLA: the down-projections are whole on every rank, the rest is divided by heads."""
    latent = text.integer("kv_lora_rank", high=1 << 16)
    rope = text.integer("qk_rope_head_dim", high=MAX_HEAD_DIM)
    nope = text.integer("qk_nope_head_dim", high=MAX_HEAD_DIM)
    value = text.integer("v_head_dim", high=MAX_HEAD_DIM)
    queries = heads.attention * (nope + rope)
    query = [Matrix("self_attn.q_proj", queries, hidden, "column")]
    if text.has("q_lora_rank"):
        rank = text.integer("q_lora_rank", high=1 << 16)
        query = [
            Matrix("self_attn.q_a_proj", rank, hidden, "whole"),
            Matrix("self_attn.q_b_proj", queries, rank, "column"),
        ]
    return (
        *query,
        Matrix("self_attn.kv_a_proj_with_mqa", latent + rope, hidden, "whole"),
        Matrix("self_attn.kv_b_proj", heads.attention * (nope + value), latent, "column"),
        Matrix("self_attn.o_proj", hidden, heads.attention * value, "row"),
    )
