"""How long one plan takes, with its growth by cards and by models: `python benchmarks/planner.py`.

Times are of one core (process time), the best of several runs, on cards that all differ: equal
cards would be no easier, the planner looks at every set.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rig_runtime.fleet import Member, plan_fleet
from rig_runtime.gpus import Gpu, Rig
from rig_runtime.models.fields import Fields
from rig_runtime.models.huggingface import shape_from_config
from rig_runtime.models.shape import ModelShape
from rig_runtime.plan import PlanRequest, plan_model

GIB = 1 << 30
RUNS = 7
MODELS = {
    "7B": (28, 3584, 18944, 28, 4, 152064),
    "14B": (48, 5120, 13824, 40, 8, 152064),
    "32B": (64, 5120, 27648, 40, 8, 152064),
    "70B": (80, 8192, 28672, 64, 8, 128256),
}


def model(name: str) -> ModelShape:
    layers, hidden, ffn, heads, kv_heads, vocabulary = MODELS[name]
    config = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": ffn,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 131072,
    }
    return shape_from_config(Fields(config, name), name)


def rig(cards: int) -> Rig:
    return Rig(
        gpus=tuple(
            Gpu(
                uuid=f"GPU-{i}",
                bus_id=f"0000:{i:02x}:00.0",
                name=f"Card {i}",
                compute_capability="8.6",
                memory_total_bytes=int((8 + 2.5 * i) * GIB),
                memory_bandwidth_bytes_per_second=(300 + 50 * i) * 10**9,
            )
            for i in range(cards)
        )
    )


def best_milliseconds(work: Callable[[], object]) -> float:
    """The best of several runs, in milliseconds of one core."""
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return round(min(times) * 1000, 2)


def measure() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    request = PlanRequest(sequences=1)
    for name in MODELS:
        for cards in (1, 2, 4, 6, 8):
            made, on = model(name), rig(cards)
            taken = best_milliseconds(partial(plan_model, made, on, request))
            rows.append({"model": name, "cards": cards, "milliseconds": taken})
    for count in (2, 5, 10):
        fleet = [Member(f"model-{i}", model("7B"), request) for i in range(count)]
        taken = best_milliseconds(partial(plan_fleet, fleet, rig(8)))
        rows.append({"model": f"{count} x 7B", "cards": 8, "milliseconds": taken})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows to this file, too")
    arguments = parser.parse_args()
    rows = measure()
    for row in rows:
        print(f"{row['model']!s:>8}  {row['cards']} cards  {row['milliseconds']:>8} ms")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
