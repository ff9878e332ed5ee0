"""Feed-forward blocks: dense, or routed experts with or without a shared one."""

from __future__ import annotations

from dataclasses import dataclass

from rig_runtime.models.fields import Fields
from rig_runtime.models.layers import EXPERT_COUNT_KEYS, LayerKind
from rig_runtime.models.shape import Divisible, Matrix

MAX_WIDTH = 1 << 24


@dataclass(frozen=True, slots=True)
class FeedForwardSizes:
    """The widths of a configuration's feed-forward blocks; 0 where it has no such block."""

    dense_width: int
    gated: bool
    experts: int
    experts_per_token: int
    expert_width: int
    shared_width: int

    @property
    def widest(self) -> int:
        """The largest width that one token passes."""
        return max(self.dense_width, self.expert_width * self.experts_per_token + self.shared_width)


def read_feed_forward(text: Fields, kinds: tuple[LayerKind, ...]) -> FeedForwardSizes:
    """The widths, under the names that the families use."""
    used = {kind.feed_forward for kind in kinds}
    dense = 0
    if "dense" in used and not any(kind.ffn_width for kind in kinds):
        dense = text.integer(
            "intermediate_size_mlp", "intermediate_size", "n_inner", "ffn_dim", high=MAX_WIDTH
        )
    gated = not text.flag("ungated", False)
    if "experts" not in used:
        return FeedForwardSizes(dense, gated, 0, 0, 0, 0)
    count = text.integer(*EXPERT_COUNT_KEYS, high=1 << 16)
    per_token = text.integer("num_experts_per_tok", "num_experts_per_token", high=count)
    width = text.integer("moe_intermediate_size", "intermediate_size", high=MAX_WIDTH)
    return FeedForwardSizes(dense, gated, count, per_token, width, _shared_width(text, width))


def _shared_width(text: Fields, expert_width: int) -> int:
    """The shared expert, which every token passes: a width of its own, or so many experts'.

    Llama 4's class always has one of the experts' size; `interleave_moe_layer_step` is its key.
    """
    keys = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")
    width = text.integer(*keys, default=0, low=0, high=MAX_WIDTH)
    if width:
        return width
    if text.has("interleave_moe_layer_step"):
        return expert_width
    return text.integer("n_shared_experts", default=0, low=0, high=1 << 10) * expert_width


def feed_forward_matrices(
    sizes: FeedForwardSizes, kind: LayerKind, hidden: int
) -> tuple[Matrix, ...]:
    """The matrices of one layer's feed-forward block."""
    if kind.feed_forward == "dense":
        return _block(hidden, kind.ffn_width or sizes.dense_width, "mlp.", sizes.gated)
    if kind.feed_forward == "none":
        return ()
    wide = ("gate_proj", "up_proj") if sizes.gated else ("up_proj",)
    count, width = sizes.experts, sizes.expert_width
    routed = (
        *(Matrix(f"mlp.experts.{name}", width, hidden, "expert_column", count) for name in wide),
        Matrix("mlp.experts.down_proj", hidden, width, "expert_row", count),
        Matrix("mlp.gate", count, hidden, "whole"),
    )
    if not sizes.shared_width:
        return routed
    return (*routed, *_block(hidden, sizes.shared_width, "mlp.shared_expert.", sizes.gated))


def _block(hidden: int, width: int, prefix: str, gated: bool) -> tuple[Matrix, ...]:
    """Gate and up side by side, then down."""
    wide = ("gate_proj", "up_proj") if gated else ("up_proj",)
    return (
        *(Matrix(prefix + name, width, hidden, "column") for name in wide),
        Matrix(f"{prefix}down_proj", hidden, width, "row"),
    )


def divisible_widths(
    sizes: FeedForwardSizes, kinds: tuple[LayerKind, ...], padded_experts: bool
) -> tuple[Divisible, ...]:
    """The widths that tensor parallelism must divide. MXFP4 experts are padded: always legal."""
    own = {kind.ffn_width for kind in kinds if kind.ffn_width}
    found = [
        Divisible("ffn_not_divisible", "intermediate size", width)
        for width in sorted({sizes.dense_width, *own})
    ]
    if not padded_experts:
        found.append(
            Divisible("expert_ffn_not_divisible", "expert intermediate size", sizes.expert_width)
        )
    found.append(Divisible("shared_expert_not_divisible", "shared expert size", sizes.shared_width))
    return tuple(each for each in found if each.size)
