"""The APIs that engines serve themselves: their paths, and what their streams and errors are like.

Ends and errors of streams are those of vLLM 0.32.0 (entrypoints/openai, entrypoints/anthropic) and
of the APIs' own descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Api:
    """How one API frames what it answers. Marks are the beginnings of server-sent events."""

    shape: Literal["openai", "responses", "anthropic"]
    """Of its errors."""
    ends: tuple[bytes, ...]
    """An event of these is the last of a stream that is complete."""
    errors: tuple[bytes, ...]
    """An event of these tells of an error of the engine."""


OPENAI = Api("openai", (b"data: [DONE]",), (b'data: {"error"',))
RESPONSES = Api(
    "responses",
    (
        b"event: response.completed",
        b"event: response.incomplete",
        b"event: response.failed",
        b"event: error",
        b"data: [DONE]",
    ),
    (b"event: response.failed", b"event: error", b'data: {"error"'),
)
ANTHROPIC = Api(
    "anthropic", (b"event: message_stop", b"event: error"), (b"event: error", b'data: {"error"')
)

FORWARDED: Mapping[str, Api] = {
    "/v1/chat/completions": OPENAI,
    "/v1/completions": OPENAI,
    "/v1/embeddings": OPENAI,
    "/v1/responses": RESPONSES,
    "/v1/messages": ANTHROPIC,
    "/v1/messages/count_tokens": ANTHROPIC,
}
"""Paths whose requests name a model and go to its engine, untouched."""


def of_path(path: str) -> Api:
    """Whose errors a client of this path reads."""
    return FORWARDED.get(path, OPENAI)
