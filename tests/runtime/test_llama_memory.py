"""llama.cpp's memory against its own dry run.

The rows are what `llama-fit-params` of llama.cpp 11669 (CPU backend) printed for files whose tensor
data is a hole. Where RIG_TEST_LLAMA_FIT_PARAMS names that program, it is asked again.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rig_runtime.llama_memory import FIXED_BYTES, LlamaNeeds
from rig_runtime.memory import Load
from rig_runtime.models import read_shape
from rig_runtime.models.shape import ModelShape
from rig_runtime.plan_types import KvCacheDtype
from rig_runtime.units import MIB
from tests.runtime import gguf_files


class Case(NamedTuple):
    model: str
    context_tokens: int
    dtype: KvCacheDtype
    kv_mib: int
    compute_mib: int


CASES = [
    Case("qwen-7b", 4096, "f16", 224, 336),
    Case("qwen-7b", 5000, "f16", 280, 337),
    Case("qwen-7b", 32768, "f16", 1792, 371),
    Case("qwen-7b", 131072, "f16", 7168, 460),
    Case("qwen-7b", 32768, "q8_0", 952, 371),
    Case("qwen-7b", 32768, "q4_0", 504, 371),
    Case("llama-8b", 4096, "f16", 512, 294),
    Case("llama-8b", 32768, "f16", 4096, 330),
    Case("qwen3-14b", 5000, "f16", 800, 351),
    Case("qwen3-14b", 40960, "f16", 6400, 396),
    Case("gemma3-27b", 4096, "f16", 944, 570),
    Case("gemma3-27b", 32768, "f16", 3184, 608),
    Case("gemma3-27b", 131072, "f16", 10864, 694),
    Case("gemma3-27b", 32768, "q8_0", 1691, 608),
]
MIDDLE: dict[str, Any] = {"heads": 40, "kv_heads": 8, "head_dim": 128, "context": 131072}


def files(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if name == "qwen-7b":
        return gguf_files.qwen_7b()
    if name == "llama-8b":
        return gguf_files.dense(
            "llama",
            layers=32,
            hidden=4096,
            ffn=14336,
            vocabulary=128256,
            rope__dimension_count=128,
            **{**MIDDLE, "heads": 32},
        )
    if name == "qwen3-14b":
        return _with_norms(
            gguf_files.dense(
                "qwen3", layers=40, hidden=5120, ffn=17408, vocabulary=151936, **MIDDLE
            ),
            {"attn_q_norm": 128, "attn_k_norm": 128},
        )
    return _with_norms(
        gguf_files.dense(
            "gemma3",
            layers=62,
            hidden=5376,
            ffn=21504,
            vocabulary=262144,
            kind="Q4_0",
            tied=True,
            attention__sliding_window=1024,
            **{**MIDDLE, "heads": 32, "kv_heads": 16},
        ),
        {
            "attn_q_norm": 128,
            "attn_k_norm": 128,
            "post_attention_norm": 5376,
            "post_ffw_norm": 5376,
        },
    )


def _with_norms(
    made: tuple[dict[str, Any], dict[str, Any]], norms: dict[str, int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    metadata, tensors = made
    layers = metadata[f"{metadata['general.architecture']}.block_count"]
    for layer in range(layers):
        for name, size in norms.items():
            tensors[f"blk.{layer}.{name}.weight"] = ("F32", (size,))
    return metadata, tensors


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("gguf")
    made = {}
    for name in dict.fromkeys(case.model for case in CASES):
        metadata, tensors = files(name)
        architecture = metadata["general.architecture"]
        vocabulary = tensors["token_embd.weight"][1][1]
        extra = {"tokenizer.ggml.model": "none", f"{architecture}.vocab_size": vocabulary}
        made[name] = gguf_files.write(directory / f"{name}.gguf", {**metadata, **extra}, tensors)
    return made


def needs(shape: ModelShape, case: Case, stages: int = 1) -> LlamaNeeds:
    return LlamaNeeds(shape, stages, Load(case.context_tokens, 1, case.dtype))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:3])))
def test_cache_is_exact_and_the_total_never_under(paths: dict[str, Path], case: Case) -> None:
    made = read_shape(paths[case.model])
    (rank,) = needs(made, case).ranks((made.num_hidden_layers,), case.context_tokens)
    assert rank.kv_cache_bytes // MIB == case.kv_mib
    assert case.compute_mib <= rank.compute_bytes / MIB <= case.compute_mib * 1.15
    everything = rank.weights_bytes + case.kv_mib * MIB + case.compute_mib * MIB
    assert everything <= rank.total_bytes - FIXED_BYTES <= everything * 1.03


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: "-".join(map(str, case[:3])))
def test_weights_are_the_files_tensors(paths: dict[str, Path], case: Case) -> None:
    """All but the input embedding, which stays in host memory."""
    made = read_shape(paths[case.model])
    _, tensors = files(case.model)
    on_card = sum(gguf_files.tensor_bytes(*t) for name, t in tensors.items() if "embd" not in name)
    (rank,) = needs(made, case).ranks((made.num_hidden_layers,), 256)
    assert rank.weights_bytes == on_card


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:3])))
def test_the_longest_context_fits_and_the_next_does_not(
    paths: dict[str, Path], case: Case, stages: int
) -> None:
    made = read_shape(paths[case.model])
    asked = needs(made, case, stages)
    layers = made.num_hidden_layers
    partition = (layers - 2 * (stages - 1), *([2] * (stages - 1)))
    at = asked.ranks(partition, case.context_tokens)
    rooms = [rank.total_bytes + 1 for rank in at]
    longest = asked.most_tokens(partition, rooms)
    assert longest >= min(case.context_tokens, made.max_position_embeddings)
    grown = asked.ranks(partition, longest)
    assert all(rank.total_bytes <= room for rank, room in zip(grown, rooms, strict=True))
    if longest < made.max_position_embeddings:
        beyond = asked.ranks(partition, longest + 256)
        assert any(rank.total_bytes > room for rank, room in zip(beyond, rooms, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:3])))
def test_the_dry_run_still_says_so(paths: dict[str, Path], case: Case) -> None:
    program = os.environ.get("RIG_TEST_LLAMA_FIT_PARAMS")
    if not program:
        pytest.skip("RIG_TEST_LLAMA_FIT_PARAMS names no llama-fit-params")
    words = [program, "-m", str(paths[case.model]), "-c", str(case.context_tokens)]
    words += ["-ub", "512", "-fa", "on", "--fit-print", "on"]
    words += ["-ctk", case.dtype, "-ctv", case.dtype]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    _, _, cache, compute = result.stdout.splitlines()[-1].split()
    assert (int(cache), int(compute)) == (case.kv_mib, case.compute_mib)
