"""`quantization_config` of a Hugging Face checkpoint -> Quantisation.

One row a format: bits of a weight with its scales, group or block, and the compute capability
that vLLM 0.32 asks for (`get_min_capability` of each method in model_executor/layers/quantization;
Marlin's floor of 7.5 where the method itself says less).
"""

from __future__ import annotations

from collections.abc import Callable

from rig_runtime.errors import BadInput
from rig_runtime.models.fields import Fields
from rig_runtime.models.shape import Quantisation

SCALE_BITS = 16


def read_quantisation(config: Fields) -> Quantisation | None:
    """The format of the linear layers, or None where they are in the model's dtype.

    Raises BadInput for a format that vLLM does not serve: never guessed.
    """
    section = config.section("quantization_config") or config.section("compression_config")
    if section is None:
        return None
    method = section.text("quant_method").lower().replace("_", "-")
    reader = READERS.get(method)
    if reader is None:
        raise BadInput(
            f"{config.source}: quantization_config.quant_method is {method!r}",
            works=f"understood are {', '.join(sorted(READERS))}",
        )
    return reader(section)


def _grouped_bits(bits: int, group_size: int | None, zero_points: bool) -> float:
    """Bits of a weight with its share of the group's scale and zero point."""
    if group_size is None:
        return bits
    return bits + (SCALE_BITS + (bits if zero_points else 0)) / group_size


def _group(section: Fields, default: int) -> int | None:
    """The group size; -1 is one scale for a whole row, which is None here."""
    size = section.integer("group_size", "q_group_size", default=default, low=-1, high=1 << 16)
    return size if size > 0 else None


def _awq(section: Fields) -> Quantisation:
    bits = section.integer("bits", "w_bit", default=4, low=2, high=8)
    group = _group(section, 128)
    return Quantisation(
        method="awq",
        bits_per_weight=_grouped_bits(bits, group, section.flag("zero_point", True)),
        min_capability=(7, 5),
        group_size=group,
        skipped=section.words("modules_to_not_convert") or (),
    )


def _gptq(section: Fields) -> Quantisation:
    bits = section.integer("bits", default=4, low=2, high=8)
    group = _group(section, 128)
    return Quantisation(
        method="gptq",
        bits_per_weight=_grouped_bits(bits, group, True),
        min_capability=(7, 5),
        group_size=group,
    )


def _fp8(section: Fields) -> Quantisation:
    blocks = section.integers("weight_block_size")
    skipped = section.words("modules_to_not_convert") or section.words("ignored_layers") or ()
    if blocks is None:
        return Quantisation("fp8", 8, (7, 5), skipped=skipped)
    if len(blocks) != 2 or blocks[0] != blocks[1] or not 0 < blocks[0] <= 1024:
        raise BadInput(
            f"{section.source}: weight_block_size is {list(blocks)}",
            works="two equal sizes, such as [128, 128]",
        )
    side = blocks[0]
    return Quantisation("fp8", 8 + 32 / (side * side), (7, 5), block_size=side, skipped=skipped)


def _mxfp4(section: Fields) -> Quantisation:
    return Quantisation(
        method="mxfp4",
        bits_per_weight=4.25,
        min_capability=(8, 0),
        group_size=32,
        pads_groups=True,
        skipped=section.words("modules_to_not_convert") or (),
    )


def _compressed_tensors(section: Fields) -> Quantisation:
    groups = section.section("config_groups")
    schemes = [part for key in groups.values if (part := groups.section(key))] if groups else []
    if len(schemes) != 1:
        raise BadInput(
            f"{section.source}: config_groups has {len(schemes)} schemes",
            works="one scheme for all linear layers is understood",
        )
    weights = schemes[0].section("weights")
    if weights is None:
        raise BadInput(f"{schemes[0].source} does not say how weights are stored")
    skipped = section.words("ignore") or ()
    bits = weights.integer("num_bits", low=2, high=16)
    group = _group(weights, -1)
    if weights.text("type", default="int") == "float":
        return _compressed_float(weights, bits, group, skipped)
    return Quantisation(
        method=f"compressed-tensors int{bits}",
        bits_per_weight=_grouped_bits(bits, group, not weights.flag("symmetric", True)),
        min_capability=(7, 5),
        group_size=group,
        skipped=skipped,
    )


def _compressed_float(
    weights: Fields, bits: int, group: int | None, skipped: tuple[str, ...]
) -> Quantisation:
    if bits == 4:
        return _nvfp4_quantisation(group or 16, skipped)
    if bits == 8:
        blocks = weights.integers("block_structure")
        side = blocks[0] if blocks else None
        bits_per_weight = 8 + (32 / (side * side) if side else 0)
        return Quantisation(
            "compressed-tensors fp8", bits_per_weight, (7, 5), block_size=side, skipped=skipped
        )
    raise BadInput(f"{weights.source}: num_bits is {bits}", works="float weights of 4 or 8 bits")


def _nvfp4_quantisation(group: int, skipped: tuple[str, ...]) -> Quantisation:
    return Quantisation("nvfp4", 4 + 8 / group, (7, 5), group_size=group, skipped=skipped)


def _modelopt(section: Fields) -> Quantisation:
    algorithm = section.text("quant_algo").upper()
    skipped = section.words("ignore") or section.words("exclude_modules") or ()
    if algorithm == "FP8":
        return Quantisation("modelopt fp8", 8, (8, 0), skipped=skipped)
    if algorithm == "NVFP4":
        group = section.integer("group_size", default=16, high=1 << 16)
        return _nvfp4_quantisation(group, skipped)
    raise BadInput(
        f"{section.source}: quant_algo is {algorithm!r}", works="understood are FP8, NVFP4"
    )


READERS: dict[str, Callable[[Fields], Quantisation]] = {
    "awq": _awq,
    "gptq": _gptq,
    "fp8": _fp8,
    "mxfp4": _mxfp4,
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "modelopt-fp4": _modelopt,
}
