"""Ollama's store on this machine: a tag -> the blob that is its GGUF file.

manifests/REGISTRY/NAMESPACE/MODEL/TAG is JSON that lists layers by digest; the layer of the media
type `application/vnd.ollama.image.model` is the model, blobs/sha256-HEX. Nothing is downloaded.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rig_runtime.errors import BadInput
from rig_runtime.files import is_file
from rig_runtime.models.fields import read_json_object

REGISTRY, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
MODEL_LAYER = "application/vnd.ollama.image.model"
PLACES = (Path("/usr/share/ollama/.ollama/models"), Path("~/.ollama/models"))
"""The service's store, then the user's."""

PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


def find_blob(tag: str) -> Path | None:
    """The GGUF file of a tag such as 'qwen2.5:7b'; None where no store has it.

    Raises BadInput for a manifest that is damaged or whose blob is missing.
    """
    parts = _parts(tag)
    if parts is None:
        return None
    for store in _stores():
        manifest = store.joinpath("manifests", *parts)
        if is_file(manifest):
            return _blob(store, manifest)
    return None


def _stores() -> list[Path]:
    stated = os.environ.get("OLLAMA_MODELS")
    return [Path(stated)] if stated else [place.expanduser() for place in PLACES]


def _parts(tag: str) -> tuple[str, ...] | None:
    """Registry, namespace, model and tag, as Ollama fills them in; None for what is no tag."""
    name, _, version = tag.partition(":")
    words = name.split("/")
    if not 1 <= len(words) <= 3:
        return None
    parts = (*(REGISTRY, NAMESPACE)[: 3 - len(words)], *words, version or TAG)
    return parts if all(PART.match(part) for part in parts) else None


def _blob(store: Path, manifest: Path) -> Path:
    layers = read_json_object(manifest).sections("layers")
    digests = [layer.text("digest") for layer in layers if layer.text("mediaType") == MODEL_LAYER]
    if len(digests) != 1 or not DIGEST.match(digests[0]):
        raise BadInput(f"{manifest} names {len(digests)} models", works="one model with a digest")
    blob = store / "blobs" / digests[0].replace(":", "-")
    if not is_file(blob):
        raise BadInput(f"{manifest} names a blob that is missing", found=str(blob))
    return blob
