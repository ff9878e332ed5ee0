"""The routes of the gateway."""

from __future__ import annotations

import aiohttp
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from rig_runtime.gateway import errors
from rig_runtime.gateway.apis import FORWARDED
from rig_runtime.gateway.forward import Forward
from rig_runtime.gateway.front import REQUEST_INFO, Front, RequestInfo
from rig_runtime.gateway.keys import Keys
from rig_runtime.lifecycle import Phase
from rig_runtime.scheduler import Scheduler
from rig_runtime.served import Refused, ServedModel


def application(
    scheduler: Scheduler, session: aiohttp.ClientSession, keys: Keys, *, max_body_bytes: int
) -> ASGIApp:
    """The whole gateway as one ASGI application."""

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        phases = {name: str(model.life.phase) for name, model in scheduler.models.items()}
        is_ready = all(phase == Phase.READY for phase in phases.values())
        return JSONResponse({"ready": is_ready, "models": phases}, 200 if is_ready else 503)

    async def models(_: Request) -> Response:
        data = [_describe(model) for model in scheduler.models.values()]
        return JSONResponse({"object": "list", "data": data})

    async def model(request: Request) -> Response:
        return JSONResponse(_describe(scheduler.model(request.path_params["name"])))

    forwards = [
        Route(
            path,
            Forward(scheduler, session, path, max_body_bytes=max_body_bytes),
            methods=["POST"],
        )
        for path in FORWARDED
    ]
    routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        *forwards,
    ]
    handlers = {HTTPException: _not_routed, Refused: _refused, Exception: _broken}
    return Front(Starlette(routes=routes, exception_handlers=handlers), keys)


def _describe(model: ServedModel) -> dict[str, object]:
    """One model as OpenAI lists it; `max_model_len` is vLLM's word for the context."""
    return {
        "id": model.config.name,
        "object": "model",
        "created": int(model.life.since),
        "owned_by": "rig-runtime",
        "max_model_len": model.plan.context_tokens if model.plan else None,
    }


async def _not_routed(request: Request, error: Exception) -> Response:
    """A path or a method that there is not."""
    known = isinstance(error, HTTPException) and error.status_code == 405
    cause = "method_not_allowed" if known else "not_found"
    response = _respond(request, cause, f"{request.method} {request.url.path} is not served here.")
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _refused(request: Request, error: Exception) -> Response:
    cause = error.cause if isinstance(error, Refused) else "internal_error"
    return _respond(request, cause, str(error))


async def _broken(request: Request, error: Exception) -> Response:
    """A mistake of ours: the front logs it, the client gets no traceback."""
    info: RequestInfo = request.scope[REQUEST_INFO]
    text = f"The gateway made a mistake; the journal has it under {info.request_id}."
    return _respond(request, "internal_error", text)


def _respond(request: Request, cause: str, text: str) -> Response:
    info: RequestInfo = request.scope[REQUEST_INFO]
    info.error = cause
    answer = errors.response(cause, text, info.api)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers)
