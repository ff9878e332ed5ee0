"""What every request passes: a request id, the keys, errors in one shape, the access log.

The log has no prompt, no answer and no key: one JSON object a request.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rig_runtime.gateway import apis, errors
from rig_runtime.gateway.keys import Keys
from rig_runtime.served import Refused

REQUEST_INFO = "rig.request"
WITHOUT_KEY = frozenset({"/health", "/ready"})

access = logging.getLogger("rig_runtime.access")
log = logging.getLogger("rig_runtime.gateway")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class RequestInfo:
    """What is known of a request; handlers fill in `model`, and `error` where a stream broke."""

    request_id: str
    method: str
    path: str
    key: str | None = None
    model: str = ""
    status: int = 0
    sent_bytes: int = 0
    error: str | None = None

    @property
    def api(self) -> apis.Api:
        """Whose errors the client reads."""
        return apis.of_path(self.path)


class Front:
    """ASGI middleware around the routes."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        info = RequestInfo(_request_id(headers), scope["method"], scope["path"])
        scope[REQUEST_INFO] = info
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                info.status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", info.request_id.encode()),
                ]
            else:
                info.sent_bytes += len(message.get("body", b""))
            await send(message)

        try:
            self._admit(info, headers)
            await self._app(scope, receive, counted)
        except Refused as error:
            await _refuse(info, error, counted)
        except Exception:  # the application has answered it as an internal error
            log.exception("request %s", info.request_id)
        finally:
            _write_access(info, time.perf_counter() - started)

    def _admit(self, info: RequestInfo, headers: dict[bytes, bytes]) -> None:
        if not self._keys.required or info.path in WITHOUT_KEY:
            return
        key = _key_in(headers)
        info.key = None if key is None else self._keys.name_of(key)
        if info.key is None:
            raise Refused(
                "invalid_api_key",
                "A valid API key is needed.",
                how="Send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'.",
            )


def _key_in(headers: dict[bytes, bytes]) -> str | None:
    """OpenAI's clients send 'Authorization: Bearer KEY', Anthropic's 'x-api-key: KEY'."""
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    given = headers.get(b"x-api-key")
    return None if given is None else given.decode("latin-1").strip()


async def _refuse(info: RequestInfo, error: Refused, send: Send) -> None:
    info.error = error.cause
    response = errors.response(error.cause, error, info.api)
    await send(
        {
            "type": "http.response.start",
            "status": response.status,
            "headers": list(response.headers),
        }
    )
    await send({"type": "http.response.body", "body": response.body})


def _request_id(headers: dict[bytes, bytes]) -> str:
    """The client's own, where it is one that can stand in a log; else a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _write_access(info: RequestInfo, seconds: float) -> None:
    """Monitors ask for health every few seconds: that is only told where something is wrong."""
    is_routine = info.path in WITHOUT_KEY and info.status < 400
    if access.isEnabledFor(logging.INFO) and not is_routine:
        record = {
            "request": info.request_id,
            "method": info.method,
            "path": info.path,
            "status": info.status,
            "model": info.model or None,
            "key": info.key,
            "milliseconds": round(seconds * 1000, 1),
            "sent_bytes": info.sent_bytes,
            "error": info.error,
        }
        access.info("%s", json.dumps({k: v for k, v in record.items() if v is not None}))
