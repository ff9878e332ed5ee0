"""One request to an engine and its answer back, streamed or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import aiohttp
from starlette.types import Receive, Scope, Send

from rig_runtime.gateway import errors
from rig_runtime.gateway.events import WholeEvents
from rig_runtime.gateway.front import REQUEST_INFO, RequestInfo
from rig_runtime.scheduler import Scheduler
from rig_runtime.served import Refused, ServedModel

BODY_SECONDS = 60.0
# below the 5 s after which vLLM's server closes an idle connection: none is used while it closes
KEEPALIVE_SECONDS = 2.0
NOTICE_SECONDS = 1.0  # a death is noticed at once, or when the kernel has freed its memory
NO_SUCH_ROUTE = b'{"detail":"Not Found"}'
"""What vLLM's server says where it has nothing for a path; a model it lacks has another text."""
CLIENT_LEFT_STATUS = 499  # nginx's word for it, in the access log only


class ClientLeft(Exception):
    """The client closed its connection."""


def upstream_session(silence_seconds: float) -> aiohttp.ClientSession:
    """The client for all engines: as many connections as there are requests."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence_seconds),
        auto_decompress=False,
        headers={"accept-encoding": "identity", "user-agent": "rig-runtime"},
    )


class Forward:
    """An ASGI application: POST bodies that name a model go to that model's engine, untouched."""

    def __init__(
        self,
        scheduler: Scheduler,
        session: aiohttp.ClientSession,
        path: str,
        *,
        max_body_bytes: int,
    ) -> None:
        self._scheduler = scheduler
        self._session = session
        self._path = path
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refused, for the front to answer, as long as nothing was sent."""
        info: RequestInfo = scope[REQUEST_INFO]
        try:
            body = await _read_body(receive, self._max_body_bytes)
            info.model = model_name(body)
            await _while_connected(receive, self._answer(body, info, send))
        except ClientLeft:
            info.status = CLIENT_LEFT_STATUS

    async def _answer(self, body: bytes, info: RequestInfo, send: Send) -> None:
        """An engine that dies before a byte was passed on gets a successor: one, not more."""
        model = self._scheduler.model(info.model)
        exchange = _Exchange(model, info, send)
        for is_last in (False, True):
            try:
                await self._ask(exchange, body)
                return
            except TimeoutError as error:
                await exchange.fail("engine_silent", "has sent nothing for too long", error)
            except (aiohttp.ClientError, OSError) as error:
                await model.leave_ready(NOTICE_SECONDS)
                if is_last or exchange.has_begun:
                    await exchange.fail("engine_died", "ended before its answer did", error)
            if exchange.has_begun:
                return

    async def _ask(self, exchange: _Exchange, body: bytes) -> None:
        info = exchange.info
        async with (
            exchange.model.lease() as spec,
            self._session.post(
                spec.base_url + self._path,
                data=body,
                headers={"content-type": "application/json", "x-request-id": info.request_id},
            ) as response,
        ):
            await exchange.pass_on(response)


class _Exchange:
    """The way back of one answer."""

    def __init__(self, model: ServedModel, info: RequestInfo, send: Send) -> None:
        self.model = model
        self.info = info
        self.has_begun = False
        """Whether the client has got a byte of a stream."""
        self._send = send

    async def pass_on(self, response: aiohttp.ClientResponse) -> None:
        if response.content_type == "text/event-stream":
            await self._stream(response)
        else:
            await self._whole(response)

    async def fail(self, cause: str, what: str, error: Exception) -> None:
        """An error event where the stream has begun, else an error for the front to answer."""
        refused = Refused(
            cause,
            f"The engine of {self.info.model} {what}.",
            found=f"{type(error).__name__}: {error}".removesuffix(": "),
            how="It is started again by itself; send the request again.",
        )
        if not self.has_begun:
            raise refused from error
        self.info.error = cause
        await self._send_part(errors.event(cause, refused, self.info.api), more=False)

    async def _whole(self, response: aiohttp.ClientResponse) -> None:
        data = await response.read()
        if response.status >= 500 and await self.model.leave_ready(NOTICE_SECONDS):
            raise aiohttp.ClientConnectionError("it died of it, or just before")
        if response.status == 404 and data == NO_SUCH_ROUTE:
            raise Refused(
                "not_supported",
                f"{self.info.model} cannot be asked at {self.info.path}.",
                found="Its engine serves no such requests for this kind of model.",
                how="A chat model gives no embeddings: configure a model that is made for them.",
            )
        headers = [
            (b"content-type", response.headers.get("content-type", "application/json").encode()),
            (b"content-length", str(len(data)).encode()),
        ]
        if response.status >= 400:
            headers.append((errors.SOURCE_HEADER, b"engine"))
        await self._start(response.status, headers)
        await self._send_part(data, more=False)

    async def _stream(self, response: aiohttp.ClientResponse) -> None:
        self.has_begun = True
        await self._start(
            response.status,
            [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
            ],
        )
        events = WholeEvents(self.info.api)
        async for chunk in response.content.iter_any():
            if whole := events.feed(chunk):
                if events.has_error and self.info.error is None:
                    await self._note_engine_error()
                await self._send_part(whole, more=True)
        if not events.is_complete:
            raise aiohttp.ClientPayloadError("the stream ended without its last event")
        await self._send_part(b"", more=False)

    async def _note_engine_error(self) -> None:
        """When the client hears of it, its next request must not go to an engine that is dying."""
        self.info.error = "engine_error"
        await self.model.leave_ready(NOTICE_SECONDS)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _send_part(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def model_name(body: bytes) -> str:
    """The model that a request names. Raises Refused."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("invalid_body", "The body must be JSON.", found=str(error)) from error
    name = request.get("model") if isinstance(request, dict) else None
    if not isinstance(name, str):
        raise Refused(
            "invalid_body",
            "The body must be a JSON object that names a model.",
            found="'model' is missing or no text.",
            how="GET /v1/models lists the models.",
        )
    return name


async def _read_body(receive: Receive, max_body_bytes: int) -> bytes:
    """Raises Refused or ClientLeft."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                part: bytes = message.get("body", b"")
                parts.append(part)
                size += len(part)
                if size > max_body_bytes:
                    raise Refused(
                        "body_too_large", f"The body may have {max_body_bytes} bytes at most."
                    )
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError as error:
        raise Refused(
            "body_timeout", f"The body must arrive within {BODY_SECONDS:.0f} s."
        ) from error


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`; if the client leaves, cancel it and raise ClientLeft."""
    answer = asyncio.create_task(work)
    client = asyncio.create_task(_until_disconnect(receive))
    try:
        await asyncio.wait({answer, client}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientLeft
        answer.result()
    finally:
        client.cancel()
        answer.cancel()
        await asyncio.gather(answer, client, return_exceptions=True)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
