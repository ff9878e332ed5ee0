"""Recurrent blocks: gated delta nets and Mamba, whose state does not grow with the context.

Sizes as in transformers' modules of the same names; a state is (kernel - 1) columns of the
convolution's input and the recurrent matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

from rig_runtime.models.fields import Fields
from rig_runtime.models.layers import Mixer
from rig_runtime.models.shape import Divisible, Matrix, Recurrent

MAX_SIZE = 1 << 22


@dataclass(frozen=True, slots=True)
class RecurrentBlock:
    """A recurrent layer: its state, its matrices, what must divide, and small tensors' elements."""

    state: Recurrent
    matrices: tuple[Matrix, ...]
    divisible: tuple[Divisible, ...]
    small_elements: int


def recurrent_block(text: Fields, mixer: Mixer, hidden: int) -> RecurrentBlock | None:
    """The block of a recurrent layer; None for a layer that has none."""
    if mixer == "gated_delta_net":
        return _gated_delta_net(text, hidden)
    if mixer == "mamba2":
        return _mamba2(text, hidden)
    if mixer == "mamba1":
        return _mamba1(text, hidden)
    return None


def _gated_delta_net(text: Fields, hidden: int) -> RecurrentBlock:
    key_heads = text.integer("linear_num_key_heads", high=MAX_SIZE)
    value_heads = text.integer("linear_num_value_heads", high=MAX_SIZE)
    key_dim = text.integer("linear_key_head_dim", high=MAX_SIZE)
    value_dim = text.integer("linear_value_head_dim", high=MAX_SIZE)
    kernel = text.integer("linear_conv_kernel_dim", high=1 << 10)
    keys, values = key_heads * key_dim, value_heads * value_dim
    channels = 2 * keys + values
    return RecurrentBlock(
        state=Recurrent(
            "gated_delta_net", (kernel - 1) * channels, key_dim * value_dim * value_heads
        ),
        matrices=(
            Matrix("linear_attn.in_proj_qkvz", channels + values, hidden, "column"),
            Matrix("linear_attn.in_proj_ba", 2 * value_heads, hidden, "column"),
            Matrix("linear_attn.out_proj", hidden, values, "row"),
        ),
        divisible=(
            Divisible("recurrent_heads_not_divisible", "linear attention key heads", key_heads),
            Divisible("recurrent_heads_not_divisible", "linear attention value heads", value_heads),
        ),
        small_elements=channels * kernel + 2 * value_heads + value_dim,
    )


def _mamba2(text: Fields, hidden: int) -> RecurrentBlock:
    heads = text.integer("mamba_num_heads", "mamba_n_heads", high=MAX_SIZE)
    head_dim = text.integer("mamba_head_dim", "mamba_d_head", high=MAX_SIZE)
    groups = text.integer("n_groups", "mamba_n_groups", default=1, high=MAX_SIZE)
    state = text.integer("ssm_state_size", "mamba_d_state", high=MAX_SIZE)
    kernel = text.integer("conv_kernel", "mamba_d_conv", high=1 << 10)
    inner = heads * head_dim
    channels = inner + 2 * groups * state
    divisible = [Divisible("recurrent_heads_not_divisible", "Mamba heads", heads)]
    if groups > 1:
        divisible.append(Divisible("recurrent_groups_not_divisible", "Mamba groups", groups))
    return RecurrentBlock(
        state=Recurrent("mamba2", (kernel - 1) * channels, state * inner),
        matrices=(
            Matrix("mixer.in_proj", inner + channels + heads, hidden, "column"),
            Matrix("mixer.out_proj", hidden, inner, "row"),
        ),
        divisible=tuple(divisible),
        small_elements=channels * kernel + 3 * heads + inner,
    )


def _mamba1(text: Fields, hidden: int) -> RecurrentBlock:
    inner = text.integer("mamba_expand", high=64) * hidden
    state = text.integer("mamba_d_state", high=MAX_SIZE)
    kernel = text.integer("mamba_d_conv", high=1 << 10)
    rank = text.integer("mamba_dt_rank", default=-(-hidden // 16), high=MAX_SIZE)
    return RecurrentBlock(
        state=Recurrent("mamba1", (kernel - 1) * inner, state * inner),
        matrices=(
            Matrix("mamba.in_proj", 2 * inner, hidden, "column"),
            Matrix("mamba.x_proj", rank + 2 * state, inner, "row"),
            Matrix("mamba.dt_proj", inner, rank, "column"),
            Matrix("mamba.out_proj", hidden, inner, "row"),
        ),
        divisible=(Divisible("recurrent_heads_not_divisible", "Mamba inner size", inner),),
        small_elements=inner * (kernel + state + 3) + rank + 2 * state,
    )
