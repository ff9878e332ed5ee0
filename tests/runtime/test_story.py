"""The story that started the project, as the planner answers it.

A guide said that a 7B model needs about 9 GB; on the 10 GB card that drives the desktop it ran out
of memory. DeepSeek-R1-Distill-Qwen-7B, Q8_0, 32k tokens of context, one sequence.
"""

from __future__ import annotations

import re

import pytest

from rig_runtime.gpus import Rig
from rig_runtime.models import ModelShape, read_shape
from rig_runtime.plan import Plan, PlanRequest, plan_model
from rig_runtime.plan_diff import changes
from rig_runtime.units import GIB, MIB
from tests.runtime import gguf_files
from tests.runtime.made import QWEN_7B, rig, shape

CONTEXT = 32768
ASKED = PlanRequest(context_tokens=CONTEXT, sequences=1)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> ModelShape:
    path = tmp_path_factory.mktemp("story") / "r1-distill-qwen-7b-q8_0.gguf"
    return read_shape(gguf_files.write(path, *gguf_files.qwen_7b()))


def only_the_3080(whole: Rig) -> PlanRequest:
    others = frozenset(gpu.uuid for gpu in whole.gpus if "3080" not in gpu.name)
    return ASKED.model_copy(update={"exclude": others})


def verdict(plan: Plan, name: str) -> tuple[str, str, str]:
    card = next(card for card in plan.cards if name in card.name)
    return card.verdict, card.reason_code, card.reason


def tokens_in(text: str) -> list[int]:
    numbers = re.findall(r"(\d[\d ]*)(?: tokens| in all)", text)
    return [int(number.replace(" ", "")) for number in numbers]


def test_with_the_desktop_it_does_not_fit_the_3080_and_the_answer_says_what_would(
    gguf: ModelShape,
) -> None:
    desktop = rig("reference-with-desktop")
    plan = plan_model(gguf, desktop, only_the_3080(desktop))
    assert not plan.feasible
    assert plan.problem is not None
    need, have = (float(gib) for gib in re.findall(r"([\d.]+) GiB", plan.problem.found)[:2])
    assert need == pytest.approx(9.58, abs=0.1)
    assert have == pytest.approx((9875 - 700) * MIB / GIB, abs=0.01), "not the 10 GB on the box"
    assert plan.max_context_tokens is not None
    assert plan.max_context_tokens == pytest.approx(22528, rel=0.1), "facts: 22 528 fit"
    desktop_fix, q8_fix = plan.fixes[:2]
    assert desktop_fix.startswith("stop the desktop on the RTX 3080 (+700 MiB): ")
    assert tokens_in(desktop_fix)[0] == pytest.approx(12800, rel=0.03), "facts: 12 800 more"
    assert q8_fix.startswith("store the KV cache as q8_0: ")
    assert tokens_in(q8_fix)[1] == pytest.approx(1.88 * plan.max_context_tokens, rel=0.02)


def test_on_the_headless_rig_it_fits(gguf: ModelShape) -> None:
    headless = rig("reference")
    plan = plan_model(gguf, headless, only_the_3080(headless))
    assert plan.feasible
    assert plan.engine == "ollama"
    assert plan.max_context_tokens is not None
    assert plan.max_context_tokens >= CONTEXT
    assert verdict(plan, "3080")[0] == "used"


def test_the_headless_rigs_plan_says_what_changed(gguf: ModelShape) -> None:
    plans = []
    for name in ("reference-with-desktop", "reference"):
        on = rig(name)
        plans.append(plan_model(gguf, on, only_the_3080(on)))
    said = changes(*plans)
    assert said[0] == "it fits now"
    assert "NVIDIA GeForce RTX 3080 at 0000:01:00.0: 700 MiB freed" in said
    assert any("excluded before, used now" in each for each in said)
    assert changes(plans[1], plans[1]) == ()


def test_the_whole_rig_has_room_even_with_the_desktop(gguf: ModelShape) -> None:
    plan = plan_model(gguf, rig("reference-with-desktop"), ASKED)
    assert plan.feasible
    assert plan.context_tokens == CONTEXT
    for card in plan.cards:
        assert card.needed_bytes <= card.usable_bytes


def test_for_vllm_the_two_3060s_and_a_reason_for_each_other_card() -> None:
    whole = rig("reference-plus-2070")
    plan = plan_model(shape(QWEN_7B), whole, ASKED)
    assert plan.split == "tensor"
    names = {gpu.uuid: gpu.name for gpu in whole.gpus}
    assert [names[uuid][-4:] for uuid in plan.gpu_set] == ["3060", "3060"]
    used, code, why = verdict(plan, "3070")
    assert (used, code) == ("spare", "gain_too_small")
    assert "2 more cards" in why, "why not all four"
    assert verdict(plan, "3080")[0] == "spare"
    used, code, why = verdict(plan, "2070")
    assert (used, code) == ("excluded", "mixed_generations")
    assert "7.5" in why


@pytest.mark.parametrize("name", ["reference", "reference-plus-2070"])
def test_plugging_the_2070_in_changes_nothing(gguf: ModelShape, name: str) -> None:
    """Ollama would then spread the same model over all cards (facts: its 80 % rule)."""
    plan = plan_model(gguf, rig(name), PlanRequest(sequences=1, context_tokens=8192))
    assert plan.split == "none"
    assert verdict(plan, "3080")[0] == "used"
