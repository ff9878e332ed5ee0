"""The table of errors: complete, and in OpenAI's shape."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import rig_runtime
from rig_runtime.gateway import errors

SOURCES = Path(rig_runtime.__file__).parent


def raised_causes() -> set[str]:
    """Every cause that the sources name."""
    text = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    pattern = r'(?:Refused\(|\.fail\(|_respond\(request,)\s*"(\w+)"|cause = "(\w+)"'
    return {first or second for first, second in re.findall(pattern, text)}


def test_every_cause_that_is_raised_is_in_the_table() -> None:
    raised = raised_causes()
    assert len(raised) > 8
    assert raised <= errors.CAUSES.keys()


@pytest.mark.parametrize("cause", errors.CAUSES)
def test_each_row(cause: str) -> None:
    row = errors.CAUSES[cause]
    answer = errors.response(cause, "why")
    headers = dict(answer.headers)
    error = json.loads(answer.body)["error"]
    assert answer.status == row.status
    assert 400 <= row.status < 600
    assert error.keys() == {"message", "type", "param", "code", "source"}
    assert error["source"] in ("gateway", "engine")
    assert headers[b"content-length"] == str(len(answer.body)).encode()
    assert (b"retry-after" in headers) == (row.retry_after_seconds is not None)
    assert errors.event(cause, "a\nb").count(b"\n") == 2
