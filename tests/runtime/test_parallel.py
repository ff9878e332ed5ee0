"""Legality of splits: every published model, every size, every reason."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rig_runtime.parallel import card_reasons, group_reasons, tensor_parallel_reasons
from tests.runtime.made import AWQ, LLAMA_TINY, QWEN_7B, gpu, shape
from tests.runtime.published import FP8_BLOCK, MODELS, Row, awq, config_of

SIZES = range(1, 9)
FORMATS = {
    "unquantised": None,
    "awq_gptq_g128": awq(128),
    "awq_gptq_g32": awq(32),
    "fp8_block128": FP8_BLOCK,
}
MXFP4 = {"quant_method": "mxfp4"}
CODES = {
    r"^heads ": "attention_heads_not_divisible",
    r"kv_heads": "kv_heads_not_divisible",
    r"^padded vocab": "vocabulary_not_divisible",
    r"^intermediate ": "ffn_not_divisible",
    r"^moe_intermediate ": "expert_ffn_not_divisible",
    r"^shared_expert ": "shared_expert_not_divisible",
    r"^(GDN|mamba) heads|^d_inner": "recurrent_heads_not_divisible",
    r"^mamba groups": "recurrent_groups_not_divisible",
}
CASES = [
    (row, name)
    for row in MODELS
    for name in FORMATS
    if row["derived"][f"tp_legal_vllm_{name}"] is not None
]


@pytest.mark.parametrize(("row", "name"), CASES, ids=lambda value: str(value)[:40])
def test_legal_sizes_of_published_models(row: Row, name: str) -> None:
    made = shape(config_of(row, FORMATS[name]))
    legal = [size for size in SIZES if not tensor_parallel_reasons(made, size)]
    assert legal == row["derived"][f"tp_legal_vllm_{name}"]


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row["id"])
def test_reasons_of_published_models(row: Row) -> None:
    """gpt-oss is published in MXFP4, whose experts are padded. Jamba's dense layers are as wide
    as its experts; the data names that width once."""
    made = shape(config_of(row, MXFP4 if row["family"] == "gpt_oss" else None))
    same_width = row.get("moe", {}).get("moe_intermediate_size") == row["intermediate_size"]
    for size, reasons in row["derived"]["tp_illegal_reasons"].items():
        expected = {code for text in reasons for key, code in CODES.items() if re.search(key, text)}
        found = {reason.code for reason in tensor_parallel_reasons(made, int(size))}
        if same_width:
            found.discard("ffn_not_divisible")
        assert found == expected, size


@pytest.mark.parametrize(
    ("name", "kind"), [("g128", "awq_gptq_g128"), ("fp8_block128", "fp8_block128")]
)
@pytest.mark.parametrize("row", MODELS, ids=lambda row: row["id"])
def test_reasons_of_groups_and_blocks(row: Row, name: str, kind: str) -> None:
    """The numbers in the reason are those that a rank would hold."""
    if row["derived"][f"tp_legal_vllm_{kind}"] is None:
        pytest.skip("the model is not published in this format")
    made = shape(config_of(row, FORMATS[kind]))
    for size, reasons in row["derived"][f"tp_illegal_reasons_{name}"].items():
        expected = {re.search(r"rank (\d+) %", text).group(1) for text in reasons}  # type: ignore[union-attr]
        said = " ".join(reason.sentence for reason in tensor_parallel_reasons(made, int(size)))
        assert {number for number in expected if f" {number} " in said} == expected, said


def test_a_reason_has_its_numbers() -> None:
    reasons = tensor_parallel_reasons(shape(QWEN_7B), 3)
    assert [reason.sentence for reason in reasons] == [
        "28 attention heads cannot be divided by 3",
        "4 KV heads cannot be divided by 3",
        "the intermediate size 18944 cannot be divided by 3",
    ]


CARDS: dict[str, tuple[dict[str, Any], str, str, list[str]]] = {
    "Pascal": (LLAMA_TINY, "6.1", "auto", ["capability_too_low"]),
    "Turing": (LLAMA_TINY, "7.5", "auto", []),
    "Turing, fp8 cache": (LLAMA_TINY, "7.5", "fp8", ["kv_cache_dtype_unsupported"]),
    "Ampere, fp8 cache": (LLAMA_TINY, "8.6", "fp8", ["kv_cache_dtype_unsupported"]),
    "Ada, fp8 cache": (LLAMA_TINY, "8.9", "fp8", []),
    "Turing, AWQ": ({**LLAMA_TINY, "quantization_config": AWQ}, "7.5", "auto", []),
    "Turing, MXFP4": (
        {**LLAMA_TINY, "quantization_config": MXFP4},
        "7.5",
        "auto",
        ["format_unsupported"],
    ),
}


@pytest.mark.parametrize(("config", "capability", "dtype", "codes"), CARDS.values(), ids=CARDS)
def test_what_a_card_cannot_run(
    config: dict[str, Any], capability: str, dtype: str, codes: list[str]
) -> None:
    card = gpu(1, compute_capability=capability)
    assert [reason.code for reason in card_reasons(shape(config), card, dtype)] == codes


def test_an_unknown_capability_is_no_reason() -> None:
    assert card_reasons(shape(LLAMA_TINY), gpu(1, compute_capability=None), "fp8") == ()


GROUPS = {
    "alike": (["8.6", "8.6"], False),
    "8.6 and 8.9": (["8.6", "8.9"], False),
    "two Turing": (["7.5", "7.5"], False),
    "Turing and Ampere": (["7.5", "8.6"], True),
    "one unknown": (["8.6", None], False),
}


@pytest.mark.parametrize(("capabilities", "mixed"), GROUPS.values(), ids=GROUPS)
def test_mixed_generations(capabilities: list[str | None], mixed: bool) -> None:
    cards = [gpu(i, compute_capability=value) for i, value in enumerate(capabilities)]
    assert [reason.code for reason in group_reasons(cards)] == ["mixed_generations"] * mixed
