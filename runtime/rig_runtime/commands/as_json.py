"""Printing for machines; apart from `console`, so that `--json` does not wait for rich."""

from __future__ import annotations

import json
from typing import Any


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(value, indent=1))
