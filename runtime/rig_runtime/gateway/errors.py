"""The one table from the cause of an error to HTTP status, type and code.

The body is that of the API that was asked, with `source` added: whether the gateway or the engine
failed. OpenAI's and Anthropic's:

    {"error": {"message": "…", "type": "…", "param": null, "code": "…", "source": "gateway"}}
    {"type": "error", "error": {"type": "…", "message": "…", "source": "gateway"}}
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from rig_runtime.errors import RigError
from rig_runtime.gateway.apis import OPENAI, Api

SOURCE_HEADER = b"x-rig-error-source"


@dataclass(frozen=True)
class Row:
    """`retry_after_seconds` only where waiting helps."""

    status: int
    type: str
    source: str = "gateway"
    retry_after_seconds: int | None = None


CAUSES: dict[str, Row] = {
    "invalid_body": Row(400, "invalid_request_error"),
    "invalid_api_key": Row(401, "invalid_request_error"),
    "not_found": Row(404, "invalid_request_error"),
    "unknown_model": Row(404, "invalid_request_error"),
    "method_not_allowed": Row(405, "invalid_request_error"),
    "body_timeout": Row(408, "invalid_request_error"),
    "body_too_large": Row(413, "invalid_request_error"),
    "internal_error": Row(500, "server_error"),
    "not_supported": Row(501, "invalid_request_error", source="engine"),
    "engine_died": Row(502, "server_error", source="engine", retry_after_seconds=2),
    "queue_full": Row(503, "server_error", retry_after_seconds=10),
    "queue_timeout": Row(503, "server_error", retry_after_seconds=30),
    "stopping": Row(503, "server_error", retry_after_seconds=30),
    "model_failed": Row(503, "server_error", source="engine"),
    "engine_silent": Row(504, "server_error", source="engine", retry_after_seconds=10),
}


ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}
"""By HTTP status; of any other it is an api_error."""


@dataclass(frozen=True)
class ErrorResponse:
    """An error, ready to be sent."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def body(cause: str, message: str, api: Api = OPENAI) -> dict[str, object]:
    """The JSON of one error."""
    row = CAUSES[cause]
    if api.shape == "anthropic":
        kind = ANTHROPIC_TYPES.get(row.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message, "source": row.source}}
    code = "model_not_found" if cause == "unknown_model" else cause  # OpenAI's own word
    error = {
        "message": message,
        "type": row.type,
        "param": "model" if cause == "unknown_model" else None,
        "code": code,
        "source": row.source,
    }
    return {"error": error}


def response(cause: str, error: RigError | str, api: Api = OPENAI) -> ErrorResponse:
    """The whole HTTP response for a cause."""
    row = CAUSES[cause]
    data = json.dumps(body(cause, str(error), api)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (SOURCE_HEADER, row.source.encode()),
    ]
    if row.retry_after_seconds is not None:
        headers.append((b"retry-after", str(row.retry_after_seconds).encode()))
    if row.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return ErrorResponse(row.status, tuple(headers), data)


def event(cause: str, error: RigError | str, api: Api = OPENAI) -> bytes:
    """The server-sent event that ends a stream which cannot be completed: the last one."""
    content = body(cause, str(error), api)
    if api.shape == "responses":  # its own event, and what OpenAI's client takes for an error
        content |= {"type": "error", "code": cause, "message": str(error), "param": None}
    name = b"" if api.shape == "openai" else b"event: error\n"
    return name + b"data: " + json.dumps(content).encode() + b"\n\n"
