"""vLLM's manners: argv and environment from a plan, its progress and its last words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig_runtime import models
from rig_runtime.config import ModelConfig, VllmConfig
from rig_runtime.engines import LaunchSpec
from rig_runtime.engines.vllm import Vllm, core_sets
from rig_runtime.errors import CheckFailed
from rig_runtime.gpus import load_rig
from rig_runtime.plan import Plan, PlanRequest, plan_model
from rig_runtime.tiny_model import make


@pytest.fixture
def model(tmp_path: Path) -> ModelConfig:
    return ModelConfig(name="org/tiny:1", path=make(tmp_path / "model"))


@pytest.fixture
def plan(model: ModelConfig, rigs: Path) -> Plan:
    request = PlanRequest(context_tokens=1024, sequences=3, tensor_parallel_size=2)
    return plan_model(models.read_shape(model.path), load_rig(rigs / "reference.json"), request)


def vllm(build: str = "cuda", venv: Path = Path("/opt/vllm")) -> Vllm:
    settings = VllmConfig.model_validate({"venv": venv, "build": build})
    return Vllm(settings, state_directory=Path("/var/lib/rig-runtime"))


def launch(engine: Vllm, plan: Plan, model: ModelConfig) -> LaunchSpec:
    return engine.launch(plan, model, port=1234, directory=Path("/run/x"))


def flag(spec: LaunchSpec, name: str) -> str | None:
    return spec.argv[spec.argv.index(name) + 1] if name in spec.argv else None


def test_cuda_gets_the_planned_cards_by_uuid_and_the_planned_sizes(
    plan: Plan, model: ModelConfig
) -> None:
    spec = launch(vllm(), plan, model)
    assert spec.argv[:3] == ("/opt/vllm/bin/vllm", "serve", str(model.path))
    assert spec.environment["CUDA_VISIBLE_DEVICES"] == ",".join(plan.gpu_set)
    assert spec.environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert spec.ranks == 2
    expected = {
        "--served-model-name": "org/tiny:1",
        "--host": "127.0.0.1",
        "--port": "1234",
        "--tensor-parallel-size": "2",
        "--max-model-len": "1024",
        "--max-num-seqs": "3",
        "--gpu-memory-utilization": str(plan.gpu_memory_utilization),
        "--kv-cache-memory-bytes": str(plan.kv_cache_bytes),
    }
    assert {name: flag(spec, name) for name in expected} == expected


def test_the_cpu_build_gets_cores_and_no_card(plan: Plan, model: ModelConfig) -> None:
    spec = launch(vllm("cpu"), plan, model)
    assert spec.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert spec.environment["VLLM_CPU_OMP_THREADS_BIND"].count("|") == 1
    assert flag(spec, "--dtype") == "float32"
    assert "--enforce-eager" in spec.argv
    assert flag(spec, "--gpu-memory-utilization") is None


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_an_engine_stays_offline_and_learns_no_secret(
    build: str, plan: Plan, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    spec = launch(vllm(build), plan, model)
    for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"):
        assert spec.environment[name] == "1"
    assert spec.environment["VLLM_HOST_IP"] == "127.0.0.1"
    assert "secret" not in {*spec.argv, *spec.environment.values()}


def test_a_layer_partition_reaches_the_engine(plan: Plan, model: ModelConfig) -> None:
    uneven = plan.model_copy(update={"layer_partition": (5, 3), "pipeline_parallel_size": 2})
    spec = launch(vllm(), uneven, model)
    assert spec.environment["VLLM_PP_LAYER_PARTITION"] == "5,3"
    assert spec.ranks == 4


def test_a_missing_installation_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"deploy\.py"):
        vllm(venv=tmp_path).check_installed()


def test_an_installation_is_recognised(tmp_path: Path) -> None:
    binary = tmp_path / "bin" / "vllm"
    binary.parent.mkdir()
    binary.touch(mode=0o755)
    vllm(venv=tmp_path).check_installed()


@given(st.sets(st.integers(0, 300), min_size=1, max_size=64), st.integers(1, 8))
def test_cores_are_shared_evenly(cores: set[int], ranks: int) -> None:
    sets = [{int(core) for core in text.split(",")} for text in core_sets(sorted(cores), ranks)]
    assert len(sets) == ranks
    assert set.union(*sets) <= cores
    if ranks <= len(cores):
        assert set.union(*sets) == cores
        assert sum(map(len, sets)) == len(cores)
        assert max(map(len, sets)) - min(map(len, sets)) <= 1


def test_cores_of_this_process_are_used(plan: Plan, model: ModelConfig) -> None:
    bound = launch(vllm("cpu"), plan, model).environment["VLLM_CPU_OMP_THREADS_BIND"]
    used = {int(core) for part in bound.split("|") for core in part.split(",")}
    assert used <= os.sched_getaffinity(0)


PROGRESS = [
    (
        "Loading safetensors checkpoint shards:  45% Completed | 1/2 [00:00]",
        "reading weights, 45 %",
    ),
    ("(Worker_TP0 pid=1) INFO 11-23 06:57:34 [x.py:6] Starting to load model /m...", "reading"),
    ("Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  37%|###7  | 13/35", "37 %"),
    ("(EngineCore pid=1) INFO 11-23 06:57:11 [core.py:133] Initializing a V1 LLM engine", "ranks"),
    ("INFO:     Application startup complete.", "first request"),
    ("INFO: anything else", None),
]


@pytest.mark.parametrize(("line", "word"), PROGRESS)
def test_progress(line: str, word: str | None) -> None:
    found = vllm().progress(line)
    assert found is None if word is None else word in (found or "")


PREFIX = "(EngineCore pid=7) ERROR 11-23 06:57:11 [core.py:900] "
FAILURES = [
    (
        "Value error, Total number of attention heads (4) must be divisible by "
        "tensor parallel size (3).",
        "cannot be split",
        True,
    ),
    (
        "ValueError: To serve at least one request with the models's max seq len (2048), (0.5 GiB "
        "KV cache is needed, which is larger than the available KV cache memory (0.03 GiB). Based "
        "on the available memory, the estimated maximum model length is 128.",
        "no room for the planned context",
        True,
    ),
    (
        "ValueError: Free memory on device cuda:0 (7.1/9.6 GiB) on startup is less than desired "
        "GPU memory utilization (0.92, 8.9 GiB).",
        "Less memory is free",
        False,
    ),
    (
        "ValueError: Available memory on node 0 (13.92/16.46 GiB) on startup is less than desired",
        "Less memory is free",
        False,
    ),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
        "out of memory",
        False,
    ),
    ("OSError: [Errno 98] Address already in use", "port", False),
    ("OSError: [Errno 28] No space left on device", "full", False),
    ("importlib.metadata.PackageNotFoundError: vllm", "incomplete", True),
    ("pydantic_core._pydantic_core.ValidationError: 1 validation error", "settings", True),
]


@pytest.mark.parametrize(("text", "cause", "permanent"), FAILURES)
def test_last_words_are_understood_and_passed_on(text: str, cause: str, permanent: bool) -> None:
    lines = ["INFO: loading", PREFIX + "Traceback:", PREFIX + text, "RuntimeError: see above"]
    found = vllm().diagnose(lines)
    assert found is not None
    assert cause in found.cause
    assert found.text == text[:500]
    assert found.permanent is permanent


def test_the_telling_words_win_over_general_ones() -> None:
    lines = ["ValueError: a consequence", "torch.OutOfMemoryError: CUDA out of memory."]
    found = vllm().diagnose(lines)
    assert found is not None
    assert "out of memory" in found.cause


def test_unknown_words_are_no_diagnosis() -> None:
    assert vllm().diagnose(["INFO: ImportError of an optional package was ignored"]) is None


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("VLLM::Worker_TP0", 0),
        ("VLLM::Worker_PP0_TP12", 12),
        ("VLLM::EngineCore", None),
        ("", None),
    ],
)
def test_ranks_are_read_from_process_names(name: str, rank: int | None) -> None:
    assert vllm().rank(name) == rank
