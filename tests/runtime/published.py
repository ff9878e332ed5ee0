"""The models of data/models.json as the configurations that are published for them."""

from __future__ import annotations

import json
from typing import Any

from tests.runtime.made import DATA

Row = dict[str, Any]

MODELS: list[Row] = json.loads((DATA / "models.json").read_text())["models"]

COMMON = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
    "max_position_embeddings",
    "sliding_window",
    "num_global_key_value_heads",
    "global_head_dim",
    "attention_k_eq_v",
    "num_kv_shared_layers",
)
MODEL_TYPES = {"gemma3": "gemma3_text", "gemma4": "gemma4_text", "qwen3_5": "qwen3_5_text"}

FP8_BLOCK = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def awq(group_size: int) -> dict[str, Any]:
    return {"quant_method": "awq", "bits": 4, "group_size": group_size, "zero_point": True}


def config_of(row: Row, quantisation: dict[str, Any] | None = None) -> dict[str, Any]:
    """A row as the config.json of that family would say it."""
    config = {key: row[key] for key in COMMON if row.get(key) is not None}
    config["model_type"] = MODEL_TYPES.get(row["family"], row["family"])
    config["torch_dtype"] = "bfloat16"
    if row["attention"] != "mla":
        config["head_dim"] = row["head_dim"]
    config |= _feed_forward(row) | _mixers(row)
    if quantisation is not None:
        config["quantization_config"] = quantisation
    return config


def _feed_forward(row: Row) -> dict[str, Any]:
    moe = row.get("moe")
    dense = {"intermediate_size": row["intermediate_size"]} if row["intermediate_size"] else {}
    if moe is None:
        return dense
    found: dict[str, Any] = {
        **dense,
        "num_experts_per_tok": moe["top_k"],
        "moe_intermediate_size": moe["moe_intermediate_size"],
    }
    if row["family"] in ("mixtral", "gpt_oss", "llama4"):
        del found["moe_intermediate_size"]
        found["num_local_experts"] = moe["num_experts"]
    elif row["attention"] == "mla" or row["family"] == "nemotron_h":
        found["n_routed_experts"] = moe["num_experts"]
        found["first_k_dense_replace"] = moe["first_dense_layers"]
        found["n_shared_experts"] = moe["shared_intermediate_size"] // moe["moe_intermediate_size"]
    else:
        found["num_experts"] = moe["num_experts"]
        if moe["shared_intermediate_size"]:
            found["shared_expert_intermediate_size"] = moe["shared_intermediate_size"]
    if row["family"] == "llama4":
        found["interleave_moe_layer_step"] = 1
    if row["family"] == "jamba":
        del found["moe_intermediate_size"]
        found |= {"expert_layer_period": 2, "expert_layer_offset": 1}
    return found


def _mixers(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if mla := row.get("mla"):
        found |= {key: value for key, value in mla.items() if value is not None}
    if linear := row.get("linear"):
        found |= {
            "linear_num_key_heads": linear["num_k_heads"],
            "linear_num_value_heads": linear["num_v_heads"],
            "linear_key_head_dim": linear["k_head_dim"],
            "linear_value_head_dim": linear["v_head_dim"],
            "linear_conv_kernel_dim": linear["conv_kernel"],
        }
    if row["attention"] == "hybrid_mamba2":
        mamba = row["mamba"]
        counts = (("M", "mamba"), ("E", "moe"), ("*", "full"))
        found |= {
            "hybrid_override_pattern": "".join(
                letter * row["layers"][key] for letter, key in counts
            ),
            "mamba_num_heads": mamba["num_heads"],
            "mamba_head_dim": mamba["head_dim"],
            "n_groups": mamba["n_groups"],
            "ssm_state_size": mamba["state"],
            "conv_kernel": mamba["conv_kernel"],
        }
    if row["attention"] == "hybrid_mamba1":
        found |= {
            "attn_layer_period": 8,
            "attn_layer_offset": 4,
            "mamba_expand": 2,
            "mamba_d_state": row["mamba"]["state"],
            "mamba_d_conv": row["mamba"]["conv_kernel"],
            "mamba_dt_rank": row["mamba"]["dt_rank"],
        }
    if row["family"] == "gpt_oss":
        found["layer_types"] = ["sliding_attention", "full_attention"] * 12
    return found
