"""What the planner has to know of each engine: how it splits, what it needs, what it refuses.

One class an engine, all with the same questions; the answers are in `vllm_memory`,
`llama_memory` and `parallel`. Nothing here starts anything: that is `engines/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rig_runtime import llama_memory, parallel, vllm_memory
from rig_runtime.gpus import Gpu
from rig_runtime.llama_memory import LlamaNeeds
from rig_runtime.memory import Load, Needs
from rig_runtime.models.shape import ModelShape
from rig_runtime.parallel import Reason
from rig_runtime.plan_types import EngineName, KvCacheDtype
from rig_runtime.vllm_memory import RankLayers, VllmNeeds


class EngineRules(Protocol):
    """One engine's answers for one model."""

    @property
    def name(self) -> EngineName:
        """The engine."""

    @property
    def batched_tokens(self) -> int:
        """Tokens of one batch that it is started with."""

    @property
    def shape(self) -> ModelShape:
        """The model."""

    def grids(self, cards: int) -> Iterator[tuple[int, int]]:
        """(tensor, stages) for so many cards."""

    def model_reasons(self, kv_cache_dtype: KvCacheDtype) -> tuple[Reason, ...]:
        """Why the engine cannot serve this model at all."""

    def split_reasons(self, tensor: int, stages: int) -> tuple[Reason, ...]:
        """Why it may not be split so."""

    def card_reasons(self, gpu: Gpu, kv_cache_dtype: KvCacheDtype) -> tuple[Reason, ...]:
        """Why a card cannot take part."""

    def group_reasons(self, gpus: Sequence[Gpu]) -> tuple[Reason, ...]:
        """Why cards cannot take part together."""

    def may_share(self, gpus: Sequence[Gpu]) -> list[list[Gpu]]:
        """The cards in the largest sets that may serve one model together."""

    def needs(self, tensor: int, stages: int, load: Load) -> Needs:
        """What the ranks of such a split need."""


@dataclass(frozen=True)
class VllmRules:
    """vLLM: tensor and pipeline parallel, one pool of KV blocks a rank."""

    shape: ModelShape
    name: EngineName = "vllm"
    batched_tokens: int = vllm_memory.BATCHED_TOKENS
    _known_layers: dict[tuple[int, str], RankLayers] = field(default_factory=dict, compare=False)

    def grids(self, cards: int) -> Iterator[tuple[int, int]]:
        for stages in range(1, min(cards, self.shape.num_hidden_layers) + 1):
            if cards % stages == 0:
                yield cards // stages, stages

    def model_reasons(self, kv_cache_dtype: KvCacheDtype) -> tuple[Reason, ...]:
        if self.shape.source == "gguf":
            return (Reason("format_unsupported", "vLLM does not serve GGUF files"),)
        if kv_cache_dtype not in vllm_memory.KV_DTYPES:
            return (
                Reason(
                    "kv_cache_dtype_unsupported",
                    f"vLLM has no KV cache of the type {kv_cache_dtype}",
                ),
            )
        return ()

    def split_reasons(self, tensor: int, stages: int) -> tuple[Reason, ...]:
        return parallel.tensor_parallel_reasons(self.shape, tensor)

    def card_reasons(self, gpu: Gpu, kv_cache_dtype: KvCacheDtype) -> tuple[Reason, ...]:
        return parallel.card_reasons(self.shape, gpu, kv_cache_dtype)

    def group_reasons(self, gpus: Sequence[Gpu]) -> tuple[Reason, ...]:
        return parallel.group_reasons(gpus)

    def may_share(self, gpus: Sequence[Gpu]) -> list[list[Gpu]]:
        if not self.group_reasons(gpus):
            return [list(gpus)]
        old = [gpu for gpu in gpus if parallel.is_old(gpu) or gpu.capability is None]
        return [old, [gpu for gpu in gpus if not parallel.is_old(gpu)]]

    def needs(self, tensor: int, stages: int, load: Load) -> Needs:
        return VllmNeeds(self.shape, tensor, stages, load, self._layers(tensor, load))

    def _layers(self, tensor: int, load: Load) -> RankLayers:
        key = (tensor, load.kv_cache_dtype)
        if key not in self._known_layers:
            self._known_layers[key] = RankLayers(self.shape, *key)
        return self._known_layers[key]


@dataclass(frozen=True)
class OllamaRules:
    """Ollama, which runs llama.cpp: one card, or layers over several."""

    shape: ModelShape
    name: EngineName = "ollama"
    batched_tokens: int = llama_memory.UBATCH_TOKENS

    def grids(self, cards: int) -> Iterator[tuple[int, int]]:
        if cards <= self.shape.num_hidden_layers:
            yield 1, cards

    def model_reasons(self, kv_cache_dtype: KvCacheDtype) -> tuple[Reason, ...]:
        if self.shape.source != "gguf":
            return (Reason("format_unsupported", "Ollama serves GGUF files"),)
        if kv_cache_dtype not in llama_memory.CACHE_BYTES:
            return (
                Reason(
                    "kv_cache_dtype_unsupported",
                    f"llama.cpp has no KV cache of the type {kv_cache_dtype}",
                ),
            )
        return ()

    def split_reasons(self, tensor: int, stages: int) -> tuple[Reason, ...]:
        return ()

    def card_reasons(self, gpu: Gpu, kv_cache_dtype: KvCacheDtype) -> tuple[Reason, ...]:
        return parallel.llama_card_reasons(gpu)

    def group_reasons(self, gpus: Sequence[Gpu]) -> tuple[Reason, ...]:
        return ()

    def may_share(self, gpus: Sequence[Gpu]) -> list[list[Gpu]]:
        return [list(gpus)]

    def needs(self, tensor: int, stages: int, load: Load) -> Needs:
        return LlamaNeeds(self.shape, stages, load)


RULES: dict[EngineName, Callable[[ModelShape], EngineRules]] = {
    "vllm": VllmRules,
    "ollama": OllamaRules,
}
