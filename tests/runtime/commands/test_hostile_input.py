"""Bad input from the shell: one message, the right code, JSON alone, bounded time, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rig_runtime.cli import main
from rig_runtime.models.safetensors import read_tensors
from tests.runtime.made import DATA, LLAMA_TINY, model_directory

REFERENCE = DATA / "rigs" / "reference.json"
TIME_SECONDS = 60


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """What the cases name: a good model, a fifo, a loop, an endless file, a directory."""
    model_directory(tmp_path, LLAMA_TINY, "good")
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo.gguf")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    return tmp_path


FILES = ("fifo", "zero", "loop", "good", "x" * 300, "x" * 5000)
ON_REFERENCE = ("--rig", str(REFERENCE))
COMMANDS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "rig": lambda file: ("plan", "good", "--rig", file),
    "gpus": lambda file: ("gpus", "--rig", file),
    "add": lambda file: ("plan", "good", *ON_REFERENCE, "--add", file),
    "diff": lambda file: ("plan", "good", *ON_REFERENCE, "--diff", file),
    "config": lambda file: ("check", "--config", file),
    "status": lambda file: ("status", "--config", file),
    "serve": lambda file: ("serve", "--config", file),
}
MODELS = ("fifo", "fifo.gguf", "zero", "loop", "x" * 300, "x" * 5000, "\udcff")
ARGUMENTS = {
    "context 0": ("plan", "good", "--context-tokens", "0"),
    "context below 0": ("plan", "good", "--context-tokens", "-1"),
    "context 10^30": ("plan", "good", "--context-tokens", "1" + "0" * 30),
    "endless digits": ("plan", "good", "--context-tokens", "9" * 5000),
    "sequences 0": ("plan", "good", "--sequences", "0"),
    "no number": ("memory", "good", "--sequences", "x"),
    "no such engine": ("plan", "good", "--engine", "tgi"),
    "no such argument": ("plan", "good", "--frob"),
    "no such command": ("frob",),
    "no command": (),
    "ranks 0": ("selftest", "--tensor-parallel-size", "0"),
    "ranks 10^30": ("selftest", "--tensor-parallel-size", "1" + "0" * 30),
    "endless seed": ("selftest", "--seed", "9" * 5000),
    "a model into a file": ("selftest", "--make-only", "good/config.json"),
}
CASES = {
    **{f"{name} {f[:6]} {len(f)}": make(f) for name, make in COMMANDS.items() for f in FILES},
    **{f"model {f[:9]!r} {len(f)}": ("plan", f, *ON_REFERENCE) for f in MODELS},
    **ARGUMENTS,
}


@pytest.mark.timeout(TIME_SECONDS)
@pytest.mark.parametrize("words", CASES.values(), ids=CASES.keys())
def test_one_message_and_exit_2(
    words: tuple[str, ...],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert len(printed.err) < 4000
    assert main([*words, "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["error"].keys() == {"needed", "found", "works", "how"}


Snapshot = dict[str, Any]
CARDS: dict[str, tuple[str, Any]] = {
    "bandwidth beyond floats": ("memory_bandwidth_bytes_per_second", 10**400),
    "endless watts": ("power_limit_watts", float("inf")),
    "watts that are no number": ("power_limit_watts", float("nan")),
    "negative memory": ("memory_total_bytes", -1),
    "more memory than there is": ("memory_used_bytes", 10**30),
    "memory in a string": ("memory_total_bytes", "12"),
    "half a character": ("name", "\ud800"),
    "no identity": ("uuid", None),
    "an identity that is drawn": ("uuid", "\x1b[31m"),
    "processes null": ("processes", None),
    "a key too many": ("colour", "red"),
}


@pytest.mark.parametrize(("key", "value"), CARDS.values(), ids=CARDS.keys())
def test_a_hostile_card_is_refused_by_name(
    key: str, value: object, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = snapshot_with(place, key, value)
    assert main(["gpus", "--rig", rig, "--json"]) == 2
    assert main(["plan", str(place / "good"), "--rig", rig]) == 2
    said = capsys.readouterr().err
    assert key in said or "hex escape" in said
    assert "\x1b" not in said


def test_a_card_may_call_itself_anything_but_not_draw(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = snapshot_with(place, "name", "\x1b[31mRTX\n\x07 \u2728" + "x" * 1000)
    assert main(["gpus", "--rig", rig]) == 0
    assert main(["plan", str(place / "good"), "--rig", rig]) == 0
    out = capsys.readouterr().out
    assert "\\x1b[31mRTX \\x07" in out
    assert "\x1b" not in out
    assert "x" * 300 not in out


def test_a_card_that_tells_nothing_but_its_memory_is_planned_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(REFERENCE.read_text())
    kept = ("uuid", "bus_id", "name", "processes", "memory_total_bytes")
    content["gpus"] = [
        {key: value if key in kept else None for key, value in card.items()}
        for card in content["gpus"]
    ]
    file = place / "rig.json"
    file.write_text(json.dumps(content))
    assert main(["plan", str(place / "good"), "--rig", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["expected_decode_tokens_per_second"] is None


def snapshot_with(parent: Path, key: str, value: object) -> str:
    """The reference rig with one value of its first card changed."""
    content: Snapshot = json.loads(REFERENCE.read_text())
    content["gpus"][0][key] = value
    file = parent / "rig.json"
    file.write_text(json.dumps(content))
    return str(file)


def test_weights_of_which_layers_are_missing_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensor = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    header = json.dumps({"model.layers.0.self_attn.q_proj.weight": tensor}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (place / "good" / "model.safetensors").write_bytes(content)
    assert main(["plan", str(place / "good"), *ON_REFERENCE]) == 2
    assert "no tensor of layer 1 of 2" in capsys.readouterr().err


def test_an_index_with_an_endless_name_names_a_missing_file(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "x" * 4000}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_tensors(tmp_path) is None


def rig_runtime(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own; its standard output may be what the caller says."""
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [sys.executable, "-m", "rig_runtime", *words],
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIME_SECONDS,
        check=False,
        **options,
    )


PLAN = ("plan", *ON_REFERENCE)


def test_a_reader_that_has_enough_is_no_error(place: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = rig_runtime(*PLAN, str(place / "good"), stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_output_at_all_is_no_error(place: Path) -> None:
    words = [sys.executable, "-m", "rig_runtime", *PLAN, str(place / "good")]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *words],
        stderr=subprocess.PIPE,
        timeout=TIME_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_full_disk_is_one_message(place: Path, form: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = rig_runtime(*PLAN, str(place / "good"), *form, stdout=full)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_without_unicode_gets_escapes(place: Path) -> None:
    rig = snapshot_with(place, "name", "RTX \u2728")
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = rig_runtime("gpus", "--rig", rig, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2728" in done.stdout


def test_a_snapshot_may_come_through_a_pipe() -> None:
    with REFERENCE.open("rb") as snapshot:
        source = subprocess.Popen(["cat"], stdin=snapshot, stdout=subprocess.PIPE)
        done = rig_runtime("gpus", "--rig", "/dev/stdin", "--json", stdin=source.stdout)
        source.communicate()
    assert json.loads(done.stdout)["gpus"]
