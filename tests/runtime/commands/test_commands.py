"""The command line is a contract: JSON alone on standard output, messages on the other, codes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from rig_runtime.cli import main
from tests.runtime.made import DATA, LLAMA_TINY, QWEN_7B, model_directory

CONTRACT = {
    "feasible",
    "model",
    "engine",
    "split",
    "gpu_set",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "layer_partition",
    "context_tokens",
    "max_context_tokens",
    "sequences",
    "kv_cache_dtype",
    "expected_decode_tokens_per_second",
    "expected_power_watts",
    "cards",
    "fixes",
    "alternatives",
}
CARD_CONTRACT = {
    "uuid",
    "name",
    "bus_id",
    "verdict",
    "reason",
    "reason_code",
    "total_bytes",
    "held_bytes",
    "reserved_bytes",
    "usable_bytes",
    "needed_bytes",
}


def rig_file(name: str) -> str:
    return str(DATA / "rigs" / f"{name}.json")


@pytest.fixture
def qwen(tmp_path: Path) -> str:
    return str(model_directory(tmp_path, QWEN_7B, "qwen-7b"))


Run = tuple[int, str, str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def run_command(*words: str) -> Run:
        code = main(words)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_command


def test_a_plan_obeys_the_contract(run: Any, qwen: str) -> None:
    code, out, err = run("plan", qwen, "--rig", rig_file("reference"), "--json")
    plan = json.loads(out)
    assert (code, err) == (0, "")
    assert plan.keys() >= CONTRACT
    assert all(card.keys() >= CARD_CONTRACT for card in plan["cards"])
    assert plan["feasible"]
    assert plan["model"] == "qwen-7b"
    used = [card["uuid"] for card in plan["cards"] if card["verdict"] == "used"]
    assert sorted(used) == sorted(plan["gpu_set"])
    assert all(card["reason"] for card in plan["cards"])


def test_the_2070_has_a_reason(run: Any, qwen: str) -> None:
    _, out, _ = run("plan", qwen, "--rig", rig_file("reference-plus-2070"), "--json")
    card = next(card for card in json.loads(out)["cards"] if "2070" in card["name"])
    assert card["verdict"] == "excluded"
    assert card["reason_code"] == "mixed_generations"
    assert "7.5" in card["reason"]


@pytest.mark.parametrize("form", [["--json"], []])
def test_no_cards_says_what_to_do_and_exits_3(run: Any, qwen: str, form: list[str]) -> None:
    code, out, _ = run("plan", qwen, "--rig", rig_file("no-cards"), *form)
    assert code == 3
    assert "lspci -d 10de:" in out


def test_a_plan_for_people_holds_at_80_columns(run: Any, qwen: str) -> None:
    code, out, _ = run("plan", qwen, "--rig", rig_file("reference-with-desktop"))
    assert code == 0
    assert "\x1b" not in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert not [line for line in out.splitlines() if line != line.rstrip()]
    assert "[rhh" in out, "the desktop's memory shows in the bar"


def test_too_long_a_context_is_bad_input(run: Any, qwen: str) -> None:
    words = ("plan", qwen, "--rig", rig_file("reference"), "--context-tokens", "200000", "--json")
    code, out, err = run(*words)
    assert code == 2
    assert "131 072" in json.loads(out)["error"]["needed"]
    assert "131 072" in err


def test_without_a_card_the_plan_is_another(run: Any, qwen: str) -> None:
    spare = json.loads(Path(rig_file("reference")).read_text())["gpus"][3]["uuid"]
    words = ("plan", qwen, "--rig", rig_file("reference"), "--json")
    with_it = json.loads(run(*words)[1])
    without = json.loads(run(*words, "--exclude", spare)[1])
    assert spare in with_it["gpu_set"]
    assert spare not in without["gpu_set"]
    assert without["cards"][3]["reason_code"] == "excluded_by_request"


def test_with_another_rigs_card_the_plan_is_another(run: Any, qwen: str) -> None:
    words = ("plan", qwen, "--rig", rig_file("one-3080"), "--json")
    assert run(*words)[0] == 3
    code, out, _ = run(*words, "--add", rig_file("two-3090-nvlink"))
    assert code == 0
    assert "3090" in str([c["name"] for c in json.loads(out)["cards"] if c["verdict"] == "used"])


def test_diff_says_what_a_swap_changes(run: Any, qwen: str, tmp_path: Path) -> None:
    words = ("plan", qwen, "--rig", rig_file("reference"), "--json")
    earlier = tmp_path / "plan.json"
    earlier.write_text(run(*words)[1])
    assert json.loads(run(*words, "--diff", str(earlier))[1])["changes"] == []
    out = run(*words[:-1], "--diff", str(earlier), "--add", rig_file("two-3090-nvlink"))[1]
    assert "Changed" in out
    assert "RTX 3090 at 0000:01:00.0 is new: used" in " ".join(out.split())


BAD = {
    "diff with no plan": (["plan", "MODEL", "--diff", rig_file("reference")], "is no plan"),
    "diff with no file": (["plan", "MODEL", "--diff", "/nowhere"], "/nowhere"),
    "no such model": (["plan", "/nowhere"], "/nowhere"),
    "no model at all": (["plan"], "--config FILE"),
    "unknown card": (["plan", "MODEL", "--exclude", "GPU-x"], "GPU-x"),
    "a card twice": (["plan", "MODEL", "--add", rig_file("reference")], "there already"),
    "no such snapshot": (["plan", "MODEL", "--add", "/nowhere.json"], "nowhere"),
    "size too large": (["plan", "MODEL", "--tensor-parallel-size", "9"], "1 to 8"),
    "illegal size": (["memory", "MODEL", "--tensor-parallel-size", "3"], "28 attention heads"),
    "more stages than layers": (["memory", "MODEL", "--pipeline-parallel-size", "40"], "28"),
    "no such configuration": (["check", "--config", "/nowhere.toml"], "nowhere"),
}


@pytest.mark.parametrize(("words", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_message_and_exit_2(
    run: Any, qwen: str, words: list[str], said: str
) -> None:
    words = [qwen if word == "MODEL" else word for word in words]
    if words[0] == "plan":
        words += ["--rig", rig_file("reference")]
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_memory_of_each_rank(run: Any, qwen: str) -> None:
    words = ("memory", qwen, "--tensor-parallel-size", "2", "--context-tokens", "32768", "--json")
    ranks = json.loads(run(*words)[1])["ranks"]
    assert len(ranks) == 2
    assert ranks[0] == ranks[1]
    parts = {key: value for key, value in ranks[0].items() if key != "total_bytes"}
    assert sum(parts.values()) == ranks[0]["total_bytes"]


CONFIG = """
[engines.vllm]
[[models]]
name = "big"
path = "{big}"
[[models]]
name = "small"
path = "{small}"
sequences = 1
"""


@pytest.fixture
def config(tmp_path: Path, qwen: str) -> str:
    small = model_directory(tmp_path, LLAMA_TINY, "small")
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(big=qwen, small=small))
    return str(path)


def test_the_fleet_shares_the_cards(run: Any, config: str) -> None:
    code, out, _ = run("plan", "--config", config, "--rig", rig_file("reference"), "--json")
    plans = json.loads(out)["plans"]
    assert code == 0
    assert [plan["model"] for plan in plans] == ["big", "small"]
    for card in plans[1]["cards"]:
        needed = sum(
            other["needed_bytes"]
            for plan in plans
            for other in plan["cards"]
            if other["uuid"] == card["uuid"]
        )
        assert needed + card["reserved_bytes"] <= card["total_bytes"]


def test_models_lists_what_is_configured(run: Any, config: str) -> None:
    code, out, _ = run("models", "--config", config, "--json")
    assert code == 0
    assert [model["name"] for model in json.loads(out)["models"]] == ["big", "small"]


def test_a_model_that_cannot_be_read_fails_alone(run: Any, qwen: str) -> None:
    code, out, _ = run("models", qwen, "/nowhere", "--json")
    assert code == 2
    shown = json.loads(out)
    assert [model["name"] for model in shown["models"]] == ["qwen-7b"]
    assert [error["model"] for error in shown["errors"]] == ["/nowhere"]


def test_check_says_what_a_good_file_holds(run: Any, config: str) -> None:
    code, out, _ = run("check", "--config", config)
    assert code == 0
    assert "2 models, gateway on 127.0.0.1:8484" in out


def test_check_of_a_file_for_another_machine(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[[models]]\nname = 'a'\npath = '/nowhere'")
    assert run("check", "--config", str(path))[0] == 2
    assert run("check", "--config", str(path), "--elsewhere")[0] == 0


@pytest.mark.parametrize("name", ["reference-with-desktop", "no-cards", "two-3090-nvlink"])
def test_gpus_for_people_holds_at_80_columns(run: Any, name: str) -> None:
    code, out, _ = run("gpus", "--rig", rig_file(name))
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80


def test_an_infeasible_plan_says_each_thing_once(run: Any, qwen: str) -> None:
    code, out, err = run("plan", qwen, "--rig", rig_file("one-3080"))
    headline, rest = " ".join(out.split()).split("RTX 3080 excluded")
    assert (code, err) == (3, "")
    assert "does not fit these cards" in headline
    assert "smaller or more strongly quantised" not in headline
    assert "What would help - use a smaller" in rest
    assert "Considered" not in rest, "the headline names the only set"


def test_beside_json_the_error_has_four_parts(run: Any, qwen: str) -> None:
    code, out, err = run("plan", qwen, "--rig", rig_file("no-cards"), "--json")
    problem = json.loads(out)["problem"]
    assert code == 3
    assert all(problem[part] and problem[part] in err for part in problem)


def test_no_line_ends_inside_a_number(run: Any, qwen: str) -> None:
    out = run("plan", qwen, "--rig", rig_file("reference-with-desktop"))[1]
    lines = out.splitlines()
    ends = [line for line in lines if re.search(r"\d$", line)]
    followers = [lines[lines.index(line) + 1] for line in ends if line != lines[-1]]
    assert not [line for line in followers if re.match(r"\s+\d{3}\b", line)]
