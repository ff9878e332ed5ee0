"""What this machine's own commands ask: HTTP on a Unix socket that only its group may open."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

STATUS_PATH = "/rig/status"


def application(status: Callable[[], dict[str, object]]) -> ASGIApp:
    async def answer(_: Request) -> Response:
        return JSONResponse(status())

    return Starlette(routes=[Route(STATUS_PATH, answer)])
