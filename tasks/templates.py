"""One template for each file that is written on the rig; an unset value is an error, not blank."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyinfra.operations import files

FOLDER = Path(__file__).resolve().parent.parent / "templates"


def render(template: str, **values: object) -> str:
    """The text of one template; the filters `toml` and `toml_key` write values and keys."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters["toml"] = _toml
    environment.filters["toml_key"] = _toml_key
    return environment.get_template(f"{template}.j2").render(values)


def _toml(value: object) -> str:
    """A value of JSON as TOML, which writes strings, numbers and booleans alike.

    Objects are inline tables, without what is not set. DEL is a control character to TOML but not
    to JSON.
    """
    if isinstance(value, Mapping):
        stated = ((key, each) for key, each in value.items() if each is not None)
        pairs = ", ".join(f"{_toml_key(key)} = {_toml(each)}" for key, each in stated)
        return f"{{{pairs}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def written(
    template: str, path: str, *, name: str, mode: str = "644", group: str = "root", **values: object
) -> None:
    """Render a template to a file of root's on the host."""
    files.put(
        name=name,
        src=StringIO(render(template, **values)),
        dest=path,
        user="root",
        group=group,
        mode=mode,
    )
