"""Made rigs and models for the planner's tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rig_runtime.gpus import Gpu, Link, Rig, load_rig
from rig_runtime.models.fields import Fields
from rig_runtime.models.huggingface import shape_from_config
from rig_runtime.models.shape import ModelShape
from rig_runtime.units import GIB

DATA = Path(__file__).parent / "data"

QWEN_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
LLAMA_TINY = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 448,
    "max_position_embeddings": 2048,
    "torch_dtype": "bfloat16",
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}


def rig(name: str) -> Rig:
    """One of the rigs in data/rigs."""
    return load_rig(DATA / "rigs" / f"{name}.json")


def shape(config: dict[str, Any], name: str = "model") -> ModelShape:
    """The shape of a configuration that is in no file."""
    return shape_from_config(Fields(config, name), name)


def model_directory(parent: Path, config: dict[str, Any], name: str = "model") -> Path:
    """A directory with a config.json and no weights."""
    directory = parent / name
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def gpu(number: int, gib: float = 12, **changes: Any) -> Gpu:
    """A made card; cards with different numbers differ in identity only."""
    values: dict[str, Any] = {
        "uuid": f"GPU-{number}",
        "bus_id": f"0000:{number:02x}:00.0",
        "name": "NVIDIA GeForce RTX 3060",
        "compute_capability": "8.6",
        "memory_total_bytes": int(gib * GIB),
        "memory_reserved_bytes": 0,
        "memory_used_bytes": 0,
        "memory_bandwidth_bytes_per_second": 360_000_000_000,
        "pcie_gen_max": 4,
        "pcie_width_max": 16,
        "pcie_width_current": 16,
        "power_limit_watts": 170,
    }
    return Gpu.model_validate_json(json.dumps({**values, **changes}))


def rig_of(*gpus: Gpu, nvlinks: int = 0) -> Rig:
    """A rig in which all cards are linked alike."""
    links = tuple(
        Link(a=a.uuid, b=b.uuid, nvlinks=nvlinks, p2p=nvlinks > 0, path="PHB")
        for i, a in enumerate(gpus)
        for b in gpus[i + 1 :]
    )
    return Rig(driver_version="580.95.05", gpus=gpus, links=links)
