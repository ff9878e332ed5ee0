"""Typed access to a JSON object written by strangers: every value is checked before it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig_runtime.errors import BadInput
from rig_runtime.files import read_bounded

MAX_JSON_BYTES = 32 << 20


class Fields:
    """The keys of one JSON object; an error names the file, the key, the value and what may be."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values = values
        self.source = source

    def has(self, *keys: str) -> bool:
        """Whether one of the keys is there and not null."""
        return any(self.values.get(key) is not None for key in keys)

    def integer(
        self, *keys: str, default: int | None = None, low: int = 1, high: int = 1 << 31
    ) -> int:
        """The first of the keys that is there, as an integer in low..high; without a default,
        one of them must be there."""
        key, value = self._first(keys)
        if value is None:
            if default is None:
                raise BadInput(f"{self.source} has no {' or '.join(keys)}")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, value, f"a whole number from {low} to {high}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, *keys: str, default: str = "") -> str:
        key, value = self._first(keys)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def section(self, key: str) -> Fields | None:
        """A nested object, or None where there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return Fields(value, f"{self.source}: {key}")

    def sections(self, key: str) -> tuple[Fields, ...]:
        """A list of objects."""
        value = self.values.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(key, value, "a list of objects")
        return tuple(
            Fields(item, f"{self.source}: {key}[{number}]") for number, item in enumerate(value)
        )

    def number(self, key: str, *, low: float = 0, high: float = 1e9) -> float:
        """A number, whole or not, in low..high."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        if not low <= value <= high:
            raise self._wrong(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def words(self, key: str) -> tuple[str, ...] | None:
        """A list of strings, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, value, "a list of strings")
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...] | None:
        """A list of whole numbers, or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self._wrong(key, value, "a list of whole numbers")
        return tuple(value)

    def _first(self, keys: tuple[str, ...]) -> tuple[str, Any]:
        for key in keys:
            if self.values.get(key) is not None:
                return key, self.values[key]
        return keys[0], None

    def _wrong(self, key: str, value: object, allowed: str) -> BadInput:
        shown = json.dumps(value, default=str)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return BadInput(f"{self.source}: {key} is {shown}", works=f"it must be {allowed}")


def read_json_object(path: Path) -> Fields:
    """A file that holds one JSON object, at most 32 MiB. Raises BadInput."""
    return Fields(parse_json_object(read_bounded(path, MAX_JSON_BYTES), str(path)), str(path))


def parse_json_object(text: bytes, source: str) -> dict[str, Any]:
    """One JSON object without duplicate keys. Raises BadInput."""
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source} is not valid JSON", found=str(error)) from error
    if not isinstance(value, dict):
        raise BadInput(f"{source} must hold one JSON object", found=type(value).__name__)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return values
