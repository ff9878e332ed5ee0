"""The configuration file: good ones load, bad ones name file, key, value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from rig_runtime.config import load
from rig_runtime.errors import BadInput

GOOD = """
[gateway]
port = 9000
[engines.vllm]
build = "cpu"
[[models]]
name = "tiny"
path = "{path}"
context_tokens = 2048
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_a_good_file_loads(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD.format(path=tmp_path)))
    assert config.gateway.port == 9000
    assert config.engines.vllm is not None
    assert config.engines.vllm.build == "cpu"
    assert config.models[0].path == tmp_path
    assert config.models[0].sequences == 4


BAD = {
    "unknown key": ("[gateway]\nhots = 'x'", "unknown key gateway.hots: did you mean host"),
    "unknown key, nothing like it": ("[rig]\nzzz = 1", "known are exclude, margin_bytes"),
    "unknown section": ("[gatway]", "did you mean gateway"),
    "unknown key in an optional section": (
        "[engines.vllm]\nvenvv = '/x'",
        "engines.vllm.venvv: did you mean venv",
    ),
    "unknown key of a model": (
        "[[models]]\nname = 'a'\npath = '/'\ncontext = 4",
        r"models\[0\]\.context: did you mean context_tokens",
    ),
    "wrong type": ("[gateway]\nport = '80'", 'gateway.port = "80": input should be a valid int'),
    "port out of range": ("[gateway]\nport = 70000", "70000: input should be less than or equal"),
    "not one of the words": ("[engines.vllm]\nbuild = 'rocm'", "'cuda' or 'cpu'"),
    "missing": ("[[models]]\nname = 'a'", r"models\[0\]\.path is required"),
    "missing model": ("[[models]]\nname = 'a'\npath = '/nowhere'", "/nowhere.*no such file"),
    "the same name twice": (
        "[[models]]\nname = 'a'\npath = '/'\n[[models]]\nname = 'a'\npath = '/'",
        'two models have the name "a"',
    ),
    "an engine that is not installed": (
        "[[models]]\nname = 'a'\npath = '/'\nengine = 'vllm'",
        r"no section \[engines\.vllm\]",
    ),
    "an engine that is only planned for": (
        "[engines.vllm]\n[[models]]\nname = 'a'\npath = '/'\nengine = 'ollama'",
        r"engine = \"ollama\": it can be planned for, but serving knows only vllm",
    ),
    "a section of such an engine": ("[engines.ollama]", r"engines\.ollama: known are vllm"),
    "a table where an array is due": ("[models]\nname = 1", "models: it must be an array"),
    "endless": ("[gateway]\nqueue_timeout_seconds = inf", "finite"),
    "a context without end": (
        f"[[models]]\nname = 'a'\npath = '/'\ncontext_tokens = 1{'0' * 30}",
        "less than 2147483648",
    ),
    "a path that is too long": (f"[[models]]\nname = 'a'\npath = '/{'x' * 5000}'", "too long"),
    "a value that draws": ("[gateway]\nport = '\\u001b[31m'".replace("'", '"'), r"\\x1b\[31m"),
    "a value without end": (f"[gateway]\nport = '{'x' * 9999}'", r"x\.\.\.: input"),
    "nested without end": (f"a = {'[' * 5000}", "not valid TOML"),
    "too large a file": ("#" * (1 << 20) + "\n", "larger than 1 MiB"),
    "open to the network without keys": ("[gateway]\nhost = '0.0.0.0'", "api_keys_file"),
    "missing key file": ("[gateway]\napi_keys_file = '/nowhere'", "/nowhere.*no such file"),
    "bad name": ("[[models]]\nname = ' a'\npath = '/'", r"models\[0\]\.name"),
    "not toml": ("[gateway", "not valid TOML"),
    "a list where a table is due": ("gateway = 3", "gateway = 3"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(BadInput, match=said) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "[gateway]\nhots = 1\nport = 0\n[[models]]\nname = 'a'")
    with pytest.raises(BadInput) as caught:
        load(path)
    assert all(key in str(caught.value) for key in ("hots", "port", "path"))


def test_a_file_for_another_machine_may_name_paths_that_are_not_here(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.format(path="/nowhere"))
    assert load(path, check_paths=False).models[0].path == Path("/nowhere")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--config FILE"):
        load(tmp_path / "none.toml")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="not valid TOML"):
        load(path)


def test_of_very_many_problems_the_first_are_said(tmp_path: Path) -> None:
    path = write(tmp_path, "".join(f"k{number} = 1\n" for number in range(5000)))
    with pytest.raises(BadInput, match="and 4990 more"):
        load(path)
