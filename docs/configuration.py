"""docs/configuration.md, made from rig_runtime/config.py: `python docs/configuration.py`."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rig_runtime.config import Config

PAGE = Path(__file__).with_name("configuration.md")
HEAD = """# Configuration

`/etc/rig-runtime/config.toml` is written by the provisioning from what the inventory states;
`rig-runtime check` validates it. Every option, generated from `rig_runtime/config.py`:
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_section("", Config)])


def _section(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    rows, nested = [], []
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = _model_in(info.annotation)
        if inner is None:
            rows.append(
                f"| `{name}` | {_kind(info.annotation)} | {_default(info)} | {_text(info)} |"
            )
        else:
            nested.append((key, inner, get_origin(info.annotation) is tuple))
    if rows:
        yield from ("| key | value | default | |", "|---|---|---|---|", *rows, "")
    for key, inner, many in nested:
        if any(_model_in(info.annotation) is None for info in inner.model_fields.values()):
            yield f"## `{f'[[{key}]]' if many else f'[{key}]'}`\n\n{inner.__doc__}\n"
        yield from _section(f"{key}.", inner)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The section that an annotation holds, directly, optionally or as a list."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _kind(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(part) for part in parts if part is not type(None))
    if origin is tuple:
        return f"list of {_kind(parts[0])}"
    return {"str": "text", "int": "integer", "float": "number", "Path": "path"}.get(
        getattr(annotation, "__name__", ""), str(annotation)
    )


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if info.default is None:
        return ""
    return f"`{list(info.default) if isinstance(info.default, tuple) else info.default}`"


def _text(info: FieldInfo) -> str:
    limits = [
        f"{word} {getattr(rule, name)}"
        for rule in info.metadata
        for name, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"))
        if hasattr(rule, name)
    ]
    return "; ".join(filter(None, [info.description or "", ", ".join(limits)]))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
