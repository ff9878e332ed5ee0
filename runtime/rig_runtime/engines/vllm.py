"""vLLM: one `vllm serve` a plan, of the CUDA or of the CPU build.

Flags, log lines and failure texts are those of vLLM 0.32.0. In the CPU build the ranks stand for
the planned cards: the same number of them, each on its own cores.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from rig_runtime.config import ModelConfig, VllmConfig
from rig_runtime.engines import Diagnosis, LaunchSpec
from rig_runtime.errors import CheckFailed
from rig_runtime.plan_types import Plan
from rig_runtime.units import MIB

# The CPU build computes in float32, where plans count two bytes an element; and it hands out KV
# room in blocks of 128 tokens a sequence, so that a bare minimum would be too little.
CPU_KV_CACHE_FACTOR = 2
CPU_KV_CACHE_MINIMUM_BYTES = 64 * MIB

# Each start inherits these from the service, and nothing else: no secret reaches an engine.
INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD")

# text of the engine, cause, whether another start would end the same way; the telling ones first
FAILURES: tuple[tuple[re.Pattern[str], str, bool], ...] = tuple(
    (re.compile(pattern), cause, permanent)
    for pattern, cause, permanent in (
        (r"must be divisible by tensor parallel size", "The model cannot be split so", True),
        (
            r"the estimated maximum model length is \d+|larger than the maximum number of tokens",
            "The KV cache has no room for the planned context",
            True,
        ),
        (
            r"(Available|Free) memory on .{1,60} on startup is less than",
            "Less memory is free than was planned",
            False,
        ),
        (
            r"CUDA out of memory|torch\.OutOfMemoryError|cudaErrorMemoryAllocation",
            "A card ran out of memory",
            False,
        ),
        (r"No available memory for the cache blocks", "No memory is left for the KV cache", False),
        (
            r"GPU is lost|CUDA error: (?:unspecified launch|device-side|an illegal)|Xid",
            "A card failed",
            False,
        ),
        (r"[Aa]ddress already in use", "The engine's port was taken by another process", False),
        (r"No space left on device", "The disk or /dev/shm is full", False),
        (
            r"^(importlib\.metadata\.)?(PackageNotFoundError|ModuleNotFoundError|ImportError)",
            "The engine's installation is incomplete",
            True,
        ),
        (
            r"Bfloat16 is only supported on GPUs",
            "The model is bfloat16, which a card cannot compute in",
            True,
        ),
        (
            r"^(pydantic_core\S+)?ValidationError|^ValueError: ",
            "The engine refuses its settings",
            True,
        ),
    )
)

# text of the engine, word for a person; percent where the engine tells it
PROGRESS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), word)
    for pattern, word in (
        (r"checkpoint shards:\s+(\d+)%", "reading weights, {} %"),
        (r"Starting to load model", "reading weights"),
        (r"Loading weights took", "weights read"),
        (r"Capturing CUDA graphs.*?(\d+)%", "capturing graphs, {} %"),
        (r"GPU KV cache size|CPU KV cache size", "KV cache made"),
        (r"Application startup complete", "answering a first request"),
        (r"Initializing a V\d LLM engine", "starting the ranks"),
    )
)


class Vllm:
    """vLLM's manners, for one installation."""

    name = "vllm"

    def __init__(self, settings: VllmConfig, *, state_directory: Path) -> None:
        self._settings = settings
        self._state_directory = state_directory

    def check_installed(self) -> None:
        executable = self._executable()
        if not os.access(executable, os.X_OK):
            raise CheckFailed(
                "vLLM is needed to serve.",
                found=f"{executable} does not exist or cannot be run.",
                works=f"A vLLM environment ({self._settings.build} build) at that place.",
                how="Run `pyinfra inventory.py deploy.py`, or set engines.vllm.venv to one.",
            )

    def launch(self, plan: Plan, model: ModelConfig, *, port: int, directory: Path) -> LaunchSpec:
        ranks = plan.tensor_parallel_size * plan.pipeline_parallel_size
        arguments = self._arguments(plan, model, port)
        return LaunchSpec(
            argv=(str(self._executable()), "serve", str(model.path), *arguments),
            environment=self._environment(plan, ranks, directory),
            base_url=f"http://127.0.0.1:{port}",
            served_name=model.name,
            ranks=ranks,
            start_timeout_seconds=self._settings.start_timeout_seconds,
            stop_timeout_seconds=self._settings.stop_timeout_seconds,
            probe_body={"model": model.name, "prompt": "a", "max_tokens": 1, "temperature": 0},
            vital_process_names=("VLLM::",),
            shared_memory_prefixes=("psm_", "vllm_dist_", "sem.mp-", "nccl-", "torch_"),
        )

    def rank(self, command_line: str) -> int | None:
        """vLLM names its workers 'VLLM::Worker_TP1'; a single rank lives in the engine core."""
        if match := re.match(r"VLLM::Worker\w*?_TP(\d+)", command_line):
            return int(match[1])
        return None

    def progress(self, line: str) -> str | None:
        for pattern, word in PROGRESS:
            if match := pattern.search(line):
                return word.format(*match.groups())
        return None

    def diagnose(self, lines: Sequence[str]) -> Diagnosis | None:
        """The most telling of the known failures, where it was first said."""
        texts = [_without_prefix(line) for line in lines]
        for pattern, cause, permanent in FAILURES:
            for text in texts:
                if pattern.search(text):
                    return Diagnosis(cause, text[:500], permanent)
        return None

    def _executable(self) -> Path:
        return self._settings.venv / "bin" / "vllm"

    def _arguments(self, plan: Plan, model: ModelConfig, port: int) -> tuple[str, ...]:
        options: dict[str, object] = {
            "--served-model-name": model.name,
            "--host": "127.0.0.1",
            "--port": port,
            "--tensor-parallel-size": plan.tensor_parallel_size,
            "--pipeline-parallel-size": plan.pipeline_parallel_size,
            "--max-model-len": plan.context_tokens,
            "--max-num-seqs": plan.sequences,
            "--max-num-batched-tokens": plan.max_num_batched_tokens,
            "--kv-cache-dtype": plan.kv_cache_dtype,
        }
        flags = ["--disable-uvicorn-access-log"]
        if self._settings.build == "cpu":
            options |= {"--dtype": "float32", "--kv-cache-memory-bytes": _cpu_kv_cache(plan)}
            flags.append("--enforce-eager")
        else:
            options |= {
                "--dtype": plan.dtype,
                "--gpu-memory-utilization": plan.gpu_memory_utilization,
                "--kv-cache-memory-bytes": plan.kv_cache_bytes,
            }
        known = [(name, value) for name, value in options.items() if value is not None]
        return (*(str(word) for option in known for word in option), *flags)

    def _environment(self, plan: Plan, ranks: int, directory: Path) -> dict[str, str]:
        cache = self._state_directory / "cache"
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
            "HOME": str(self._state_directory),
            "TMPDIR": str(directory),
            "XDG_CACHE_HOME": str(cache),
            "XDG_CONFIG_HOME": str(self._state_directory / "config"),
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
            "HF_HOME": str(cache / "huggingface"),
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_LOGGING_COLOR": "0",
            "PYTHONUNBUFFERED": "1",
        }
        if self._settings.build == "cpu":
            cores = sorted(os.sched_getaffinity(0))
            return environment | {
                "CUDA_VISIBLE_DEVICES": "",
                "VLLM_CPU_CI_ENV": "1",
                # --enforce-eager leaves a few compiled functions, which need a C++ compiler
                "TORCH_COMPILE_DISABLE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "|".join(core_sets(cores, ranks)),
            }
        if plan.layer_partition is not None:
            layers = ",".join(str(count) for count in plan.layer_partition)
            environment["VLLM_PP_LAYER_PARTITION"] = layers
        return environment | {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(plan.gpu_set),
        }


def core_sets(cores: Sequence[int], ranks: int) -> list[str]:
    """One set of cores a rank, as even as can be: ([0, 1, 2], 2) -> ['0,1', '2'].

    With more ranks than cores they share: ([0], 2) -> ['0', '0'].
    """
    if ranks >= len(cores):
        return [str(cores[rank % len(cores)]) for rank in range(ranks)]
    size, larger = divmod(len(cores), ranks)
    starts = [rank * size + min(rank, larger) for rank in range(ranks + 1)]
    return [
        ",".join(str(core) for core in cores[start:end])
        for start, end in itertools.pairwise(starts)
    ]


def _cpu_kv_cache(plan: Plan) -> int:
    planned = (plan.kv_cache_bytes or 0) * CPU_KV_CACHE_FACTOR
    return max(planned, CPU_KV_CACHE_MINIMUM_BYTES)


def _without_prefix(line: str) -> str:
    """'(EngineCore pid=1) ERROR 11-23 06:57:11 [core.py:1] text' -> 'text'."""
    return re.sub(r"^(\([^)]*\) )?(\w+ \d\d-\d\d [\d:]+ \[[^\]]*\] )?", "", line).strip()
