"""Feed-forward blocks: dense, or routed experts with or without a shared one."""

from __future__ import annotations

from dataclasses import dataclass

from rig_runtime.models.fields import Fields
from rig_runtime.models.layers import EXPERT_COUNT_KEYS
from rig_runtime.models.shape import Divisible, Matrix

MAX_WIDTH = 1 << 24


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts of one layer."""

    count: int
    per_token: int
    width: int
    shared_width: int


def read_experts(text: Fields) -> Experts | None:
    """The experts that a configuration describes, under the names that its family uses."""
    count = text.integer(*EXPERT_COUNT_KEYS, default=0, low=0, high=1 << 16)
    if not count:
        return None
    width = text.integer("moe_intermediate_size", "intermediate_size", high=MAX_WIDTH)
    shared = text.integer("shared_expert_intermediate_size", default=0, low=0, high=MAX_WIDTH)
    if not shared:
        copies = text.integer("n_shared_experts", default=0, low=0, high=1 << 10)
        shared = copies * width
    per_token = text.integer("num_experts_per_tok", "num_experts_per_token", high=count)
    return Experts(count, per_token, width, shared)


def dense_width(text: Fields) -> int:
    """The width of a layer without experts."""
    return text.integer("intermediate_size", "n_inner", "ffn_dim", high=MAX_WIDTH)


def dense_matrices(hidden: int, width: int, name: str = "") -> tuple[Matrix, ...]:
    """A gated block: gate and up side by side, then down."""
    return (
        Matrix(f"{name}gate_proj", width, hidden, "column"),
        Matrix(f"{name}up_proj", width, hidden, "column"),
        Matrix(f"{name}down_proj", hidden, width, "row"),
    )


def expert_matrices(hidden: int, experts: Experts) -> tuple[Matrix, ...]:
    """The router, all routed experts, and the shared one."""
    routed = (
        Matrix("expert gate_proj", experts.width, hidden, "expert_column", experts.count),
        Matrix("expert up_proj", experts.width, hidden, "expert_column", experts.count),
        Matrix("expert down_proj", hidden, experts.width, "expert_row", experts.count),
        Matrix("router", experts.count, hidden, "whole"),
    )
    if not experts.shared_width:
        return routed
    return (*routed, *dense_matrices(hidden, experts.shared_width, "shared "))


def divisible_widths(
    text: Fields, experts: Experts | None, kinds: set[bool], padded_experts: bool
) -> tuple[Divisible, ...]:
    """The widths that tensor parallelism must divide. MXFP4 experts are padded: always legal."""
    sizes = []
    if False in kinds:
        sizes.append(Divisible("ffn_not_divisible", "intermediate size", dense_width(text)))
    if True in kinds and experts and not padded_experts:
        sizes.append(
            Divisible("expert_ffn_not_divisible", "expert intermediate size", experts.width)
        )
    if True in kinds and experts and experts.shared_width:
        sizes.append(
            Divisible("shared_expert_not_divisible", "shared expert size", experts.shared_width)
        )
    return tuple(sizes)
