"""Files of a model -> one ModelShape, from configuration and headers alone."""

from __future__ import annotations

from pathlib import Path

from rig_runtime.errors import BadInput
from rig_runtime.models.gguf_shape import read_gguf_shape
from rig_runtime.models.huggingface import read_huggingface
from rig_runtime.models.shape import ModelShape

__all__ = ["ModelShape", "read_shape"]


def read_shape(path: Path) -> ModelShape:
    """A directory with a config.json, a bare config.json, or a .gguf file.

    Weights need not be there: they are then computed from the shape and the quantisation. Of a
    GGUF file the header is enough. Raises BadInput where the path is no model, or a model that is
    not understood.
    """
    if not path.exists():
        raise BadInput(
            f"there is no model at {path}",
            works="a directory with a config.json, a config.json, or a .gguf file",
        )
    if path.suffix == ".gguf" and path.is_file():
        return read_gguf_shape(path)
    if path.is_dir() and not (path / "config.json").is_file():
        raise BadInput(f"{path} has no config.json", works="a Hugging Face model directory")
    return read_huggingface(path)
