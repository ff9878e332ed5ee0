"""What NVML and the PCI bus say of a card model that a rig snapshot does not hold.

A row per model, by the name that NVML reports. Device ids are those of the PCI ID database,
bus widths and cores those of the vendor's specifications; NVML's own enumeration numbers the
architectures (Turing 6, Ampere 7, Ada 8, Hopper 9, Blackwell 10).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CardModel:
    """One card model; ids are 16 bits, the bus width is in bits."""

    device_id: int
    bus_width_bits: int
    cores: int
    compute_capability: str


CARD_MODELS = {
    "NVIDIA GeForce GTX 1060 6GB": CardModel(0x1C03, 192, 1280, "6.1"),
    "NVIDIA GeForce GTX 1070": CardModel(0x1B81, 256, 1920, "6.1"),
    "NVIDIA GeForce GTX 1080 Ti": CardModel(0x1B06, 352, 3584, "6.1"),
    "NVIDIA GeForce GTX 1660 SUPER": CardModel(0x21C4, 192, 1408, "7.5"),
    "NVIDIA GeForce RTX 2060": CardModel(0x1F08, 192, 1920, "7.5"),
    "NVIDIA GeForce RTX 2070": CardModel(0x1F02, 256, 2304, "7.5"),
    "NVIDIA GeForce RTX 2080 Ti": CardModel(0x1E07, 352, 4352, "7.5"),
    "NVIDIA GeForce RTX 3060": CardModel(0x2503, 192, 3584, "8.6"),
    "NVIDIA GeForce RTX 3060 Ti": CardModel(0x2486, 256, 4864, "8.6"),
    "NVIDIA GeForce RTX 3070": CardModel(0x2484, 256, 5888, "8.6"),
    "NVIDIA GeForce RTX 3070 Ti": CardModel(0x2482, 256, 6144, "8.6"),
    "NVIDIA GeForce RTX 3080": CardModel(0x2206, 320, 8704, "8.6"),
    "NVIDIA GeForce RTX 3080 Ti": CardModel(0x2208, 384, 10240, "8.6"),
    "NVIDIA GeForce RTX 3090": CardModel(0x2204, 384, 10496, "8.6"),
    "NVIDIA GeForce RTX 3090 Ti": CardModel(0x2203, 384, 10752, "8.6"),
    "NVIDIA GeForce RTX 4060 Ti": CardModel(0x2803, 128, 4352, "8.9"),
    "NVIDIA GeForce RTX 4070": CardModel(0x2786, 192, 5888, "8.9"),
    "NVIDIA GeForce RTX 4080": CardModel(0x2704, 256, 9728, "8.9"),
    "NVIDIA GeForce RTX 4090": CardModel(0x2684, 384, 16384, "8.9"),
    "NVIDIA GeForce RTX 5060 Ti": CardModel(0x2D04, 128, 4608, "12.0"),
    "NVIDIA GeForce RTX 5070": CardModel(0x2F04, 192, 6144, "12.0"),
    "NVIDIA GeForce RTX 5090": CardModel(0x2B85, 512, 21760, "12.0"),
    "NVIDIA RTX A4000": CardModel(0x24B0, 256, 6144, "8.6"),
    "NVIDIA RTX A6000": CardModel(0x2230, 384, 10752, "8.6"),
    "Tesla P40": CardModel(0x1B38, 384, 3840, "6.1"),
    "Tesla V100-PCIE-16GB": CardModel(0x1DB4, 4096, 5120, "7.0"),
}

UNKNOWN_MODEL = CardModel(0x2FFF, 256, 4096, "8.6")
"""For a name that is not in the table: an id that no driver list knows, a middling card."""

_ARCHITECTURES = {5: 3, 6: 4, 7: 5, 8: 7, 9: 9, 10: 10, 12: 10}


def card_model(name: str) -> CardModel:
    """The row of this name, or `UNKNOWN_MODEL`."""
    return CARD_MODELS.get(name, UNKNOWN_MODEL)


def architecture(compute_capability: str) -> int:
    """NVML's architecture number of a compute capability."""
    if compute_capability == "7.5":
        return 6
    if compute_capability == "8.9":
        return 8
    return _ARCHITECTURES.get(int(compute_capability.split(".")[0]), 0xFFFFFFFF)


def brand(name: str) -> int:
    """NVML's brand number of a card name: 5 GeForce, 13 RTX, 2 Tesla, 14 other."""
    for word, number in (("GeForce", 5), ("RTX", 13), ("Tesla", 2)):
        if word in name:
            return number
    return 14
