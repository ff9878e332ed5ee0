"""Files of a model -> one ModelShape, from configuration and headers alone."""

from __future__ import annotations

from pathlib import Path

from rig_runtime.errors import BadInput
from rig_runtime.files import is_file, why_missing
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
    works = "a directory with a config.json, a config.json, or a .gguf file"
    if why := why_missing(path):
        raise BadInput(f"there is no model at {path}", found=why, works=works)
    if not path.is_dir() and not path.is_file():
        raise BadInput(f"{path} is neither a file nor a directory", works=works)
    if path.suffix == ".gguf" and path.is_file():
        return read_gguf_shape(path)
    if path.is_dir() and not is_file(path / "config.json"):
        raise BadInput(f"{path} has no config.json", works=works)
    return read_huggingface(path)
