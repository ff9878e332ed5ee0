"""`rig-runtime models`: the configured models, or those at the given paths, with their shape."""

from __future__ import annotations

import argparse
from typing import Any

from rig_runtime.cli import add_common_arguments
from rig_runtime.commands.inputs import config_of, model_of, models_of
from rig_runtime.config import Config
from rig_runtime.errors import BadInput
from rig_runtime.models import ModelShape
from rig_runtime.units import size, tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("model", nargs="*", help="a configured name, a directory, a config.json")


def run(arguments: argparse.Namespace) -> int:
    """One model that cannot be read fails alone; the exit code is 2 if any did."""
    config = config_of(arguments)
    found, failed = _read(arguments.model, config)
    if arguments.json:
        from rig_runtime.commands.as_json import print_json

        print_json({"models": [_facts(name, shape) for name, shape in found], "errors": failed})
    else:
        _show(found, failed)
    return 2 if failed else 0


def _read(
    words: list[str], config: Config | None
) -> tuple[list[tuple[str, ModelShape]], list[dict[str, str]]]:
    names = words or [model.name for model in (config.models if config else ())]
    if not names:
        models_of(config)  # raises: says that there is none, and where it looked
    found, failed = [], []
    for name in names:
        try:
            model = model_of(name, config)
            found.append((model.name, model.shape))
        except BadInput as error:
            failed.append({"model": name, **error.as_json()})
    return found, failed


def _facts(name: str, shape: ModelShape) -> dict[str, Any]:
    attention = [layer.attention for layer in shape.layers if layer.attention]
    return {
        "name": name,
        "num_hidden_layers": shape.num_hidden_layers,
        "hidden_size": shape.hidden_size,
        "vocab_size": shape.vocab_size,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": list(shape.kv_head_counts),
        "head_dim": sorted({each.key_dim for each in attention}),
        "layers": {
            kind: sum(each.kind == kind for each in attention)
            for kind in ("full", "sliding", "mla")
        },
        "num_experts": shape.num_experts,
        "max_position_embeddings": shape.max_position_embeddings,
        "dtype": shape.dtype,
        "quantisation": shape.quantisation.method if shape.quantisation else None,
        "weights_bytes": shape.weights_bytes,
        "weights_exact": shape.weights_exact,
        "notes": list(shape.notes),
    }


def _show(found: list[tuple[str, ModelShape]], failed: list[dict[str, str]]) -> None:
    from rig_runtime.commands.console import console, table

    out = console()
    rows = [
        (
            name,
            str(shape.num_hidden_layers),
            f"{shape.num_attention_heads}/{'+'.join(map(str, shape.kv_head_counts)) or '-'}",
            shape.quantisation.method if shape.quantisation else shape.dtype,
            ("" if shape.weights_exact else "~") + size(shape.weights_bytes),
            tokens(shape.max_position_embeddings),
        )
        for name, shape in found
    ]
    if rows:
        columns = ("model", "layers", "heads/KV", "format", "weights", "context")
        out.print(table(columns, rows, right=("layers", "weights", "context")))
    for failure in failed:
        parts = (failure["needed"], failure["found"], failure["works"])
        out.print(f"{failure['model']}: " + "; ".join(part for part in parts if part))
