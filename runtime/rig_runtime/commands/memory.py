"""`rig-runtime memory`: the bytes of each rank for one split, whether or not a card has them."""

from __future__ import annotations

import argparse

from rig_runtime.cli import add_common_arguments
from rig_runtime.commands.inputs import config_of, model_of
from rig_runtime.engine_rules import RULES, EngineRules
from rig_runtime.errors import BadInput
from rig_runtime.memory import Load, even_partition
from rig_runtime.parallel import Reason
from rig_runtime.plan_types import EngineName, KvCacheDtype, RankMemory

KV_CACHE_DTYPES = KvCacheDtype.__args__  # type: ignore[attr-defined]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_load_arguments(parser)
    parser.add_argument("model", help="a configured name, a directory, or a config.json")
    parser.add_argument("--pipeline-parallel-size", type=positive, default=1)


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """What `memory` and `plan` have in common."""
    parser.add_argument("--engine", choices=list(RULES), default=None)
    parser.add_argument("--tensor-parallel-size", type=positive, default=None)
    parser.add_argument("--context-tokens", type=positive, default=None)
    parser.add_argument("--sequences", type=positive, default=None)
    parser.add_argument("--kv-cache-dtype", choices=KV_CACHE_DTYPES, default=None)


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else 0
    if not 0 < number < 1 << 31:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise argparse.ArgumentTypeError(f"'{shown}' is no whole number from 1 to {(1 << 31) - 1}")
    return number


def run(arguments: argparse.Namespace) -> int:
    model = model_of(arguments.model, config_of(arguments))
    usual: EngineName = "ollama" if model.shape.source == "gguf" else "vllm"
    engine: EngineName = arguments.engine or usual
    rules = RULES[engine](model.shape)
    tensor, stages = arguments.tensor_parallel_size or 1, arguments.pipeline_parallel_size
    dtype: KvCacheDtype = arguments.kv_cache_dtype or "auto"
    _check_legal(rules, tensor, stages, dtype)
    load = Load(
        context_tokens=arguments.context_tokens or model.shape.max_position_embeddings,
        sequences=arguments.sequences or 1,
        kv_cache_dtype=dtype,
        batched_tokens=rules.batched_tokens,
    )
    partition = even_partition(model.shape.num_hidden_layers, stages)
    needs = rules.needs(tensor, stages, load)
    ranks = [rank for rank in needs.ranks(partition, load.context_tokens) for _ in range(tensor)]
    if arguments.json:
        from rig_runtime.commands.as_json import print_json

        print_json({"ranks": [rank.model_dump() for rank in ranks]})
    else:
        _show(ranks)
    return 0


def _check_legal(rules: EngineRules, tensor: int, stages: int, dtype: KvCacheDtype) -> None:
    """Raise BadInput for a split that the engine does not do."""
    shape = rules.shape
    if stages > shape.num_hidden_layers:
        raise BadInput(
            f"{stages} pipeline stages need as many layers",
            found=f"{shape.name} has {shape.num_hidden_layers}",
        )
    reasons = (*rules.model_reasons(dtype), *rules.split_reasons(tensor, stages))
    if not reasons and (tensor, stages) not in set(rules.grids(tensor * stages)):
        reasons = (Reason("split_unknown", f"{rules.name} does not split a model so"),)
    if reasons:
        raise BadInput(
            f"{shape.name} cannot be split over {tensor * stages} ranks",
            found="; ".join(reason.sentence for reason in reasons),
        )


def _show(ranks: list[RankMemory]) -> None:
    from rig_runtime.commands.console import console, gib_of, table

    columns = ("rank", "weights", "KV cache", "state", "compute", "fixed", "total")
    rows = [
        (
            str(number),
            gib_of(rank.weights_bytes),
            gib_of(rank.kv_cache_bytes),
            gib_of(rank.state_bytes),
            gib_of(rank.compute_bytes),
            gib_of(rank.fixed_bytes),
            gib_of(rank.total_bytes),
        )
        for number, rank in enumerate(ranks)
    ]
    out = console()
    out.print("GiB on each rank")
    out.print(table(columns, rows, right=columns))
