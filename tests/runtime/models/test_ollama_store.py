"""Tags of Ollama's store, whose blobs are GGUF files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rig_runtime.cli import main
from rig_runtime.errors import BadInput
from rig_runtime.models.ollama_store import MODEL_LAYER, find_blob
from tests.runtime import gguf_files
from tests.runtime.made import DATA

HEX = "ab" * 32


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with one model, qwen2.5:7b."""
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    (tmp_path / "blobs").mkdir()
    gguf_files.write(tmp_path / "blobs" / f"sha256-{HEX}", *gguf_files.qwen_7b())
    write_manifest(tmp_path, [{"mediaType": MODEL_LAYER, "digest": f"sha256:{HEX}", "size": 1}])
    return tmp_path


def write_manifest(store: Path, layers: list[dict[str, Any]]) -> None:
    manifest = store / "manifests/registry.ollama.ai/library/qwen2.5/7b"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))


@pytest.mark.parametrize(
    "tag", ["qwen2.5:7b", "library/qwen2.5:7b", "registry.ollama.ai/library/qwen2.5:7b"]
)
def test_a_tag_is_a_blob(store: Path, tag: str) -> None:
    assert find_blob(tag) == store / "blobs" / f"sha256-{HEX}"


@pytest.mark.parametrize("tag", ["qwen2.5", "qwen2.5:72b", "../x:7b", "a/b/c/d", "", "/etc/passwd"])
def test_what_is_no_tag_of_the_store(store: Path, tag: str) -> None:
    assert find_blob(tag) is None


BAD: dict[str, list[dict[str, Any]]] = {
    "no model": [],
    "two models": [{"mediaType": MODEL_LAYER, "digest": f"sha256:{HEX}"}] * 2,
    "a path for a digest": [{"mediaType": MODEL_LAYER, "digest": "sha256:../../etc/passwd"}],
    "missing blob": [{"mediaType": MODEL_LAYER, "digest": f"sha256:{'cd' * 32}"}],
}


@pytest.mark.parametrize("layers", BAD.values(), ids=BAD)
def test_a_damaged_manifest_is_one_message(store: Path, layers: list[dict[str, Any]]) -> None:
    write_manifest(store, layers)
    with pytest.raises(BadInput):
        find_blob("qwen2.5:7b")


@pytest.mark.usefixtures("store")
def test_a_tag_is_planned_like_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    rig = str(DATA / "rigs" / "reference.json")
    assert main(["plan", "qwen2.5:7b", "--rig", rig, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["model"], plan["engine"]) == ("qwen2.5:7b", "ollama")
