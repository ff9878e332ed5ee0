"""Attention blocks: what a layer caches for each token, and its projections."""

from __future__ import annotations

from dataclasses import dataclass

from rig_runtime.errors import BadInput
from rig_runtime.models.fields import Fields
from rig_runtime.models.shape import Attention, Matrix

MAX_HEADS = 1 << 14
MAX_HEAD_DIM = 1 << 14


@dataclass(frozen=True, slots=True)
class Heads:
    """The head counts and width of a configuration."""

    attention: int
    kv: int
    dim: int


def read_heads(text: Fields, hidden: int) -> Heads:
    """`head_dim` where the configuration has it; hidden/heads only where it has not."""
    attention = text.integer("num_attention_heads", "n_head", high=MAX_HEADS)
    kv = text.integer("num_key_value_heads", default=attention, high=MAX_HEADS)
    if attention % kv:
        raise BadInput(
            f"{text.source}: num_attention_heads {attention} is not a multiple of "
            f"num_key_value_heads {kv}"
        )
    if not text.has("head_dim") and hidden % attention:
        raise BadInput(
            f"{text.source}: hidden_size {hidden} is not a multiple of num_attention_heads "
            f"{attention}",
            works="a head_dim must then say how wide a head is",
        )
    dim = text.integer("head_dim", default=max(1, hidden // attention), high=MAX_HEAD_DIM)
    return Heads(attention, kv, dim)


def grouped_attention(text: Fields, heads: Heads, kind: str) -> Attention:
    """Multi-head, grouped-query and multi-query attention, full or with a sliding window."""
    if kind == "sliding":
        window = text.integer("sliding_window", high=1 << 31)
        return Attention("sliding", heads.kv, heads.dim, heads.dim, window)
    return Attention("full", heads.kv, heads.dim, heads.dim)


def grouped_projections(text: Fields, heads: Heads, hidden: int) -> tuple[Matrix, ...]:
    """q, k, v and o.

    Qwen2's classes give q, k and v a bias that no key of config.json mentions, and o none.
    """
    stated = text.flag("attention_bias", False)
    implied = text.text("model_type").startswith("qwen2")
    width, kv_width = heads.attention * heads.dim, heads.kv * heads.dim
    return (
        Matrix("q_proj", width, hidden, "column", bias=stated or implied),
        Matrix("k_proj", kv_width, hidden, "kv", bias=stated or implied, heads=heads.kv),
        Matrix("v_proj", kv_width, hidden, "kv", bias=stated or implied, heads=heads.kv),
        Matrix("o_proj", hidden, width, "row", bias=stated and not implied),
    )
