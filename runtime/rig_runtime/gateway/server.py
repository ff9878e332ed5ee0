"""Sockets, and uvicorn on them. Sockets are bound before anything else is done, so that a taken
port is one message and not a half-started service."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from rig_runtime.errors import BadInput

KEEPALIVE_SECONDS = 75
CLOSE_SECONDS = 5
BACKLOG = 2048


class _Server(uvicorn.Server):
    """Signals are the service's, not the server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    """Serve `app` on a bound socket while the block runs."""
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Port 0 takes a free one. Raises BadInput where it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise _cannot_bind(host, port, error) from error
    listener.setblocking(False)
    return listener


def _cannot_bind(host: str, port: int, error: OSError) -> BadInput:
    needed = f"The gateway needs {host} port {port}."
    if error.errno == errno.EADDRINUSE:
        return BadInput(
            needed,
            found="Another process listens there.",
            how=f"`ss -ltnp 'sport = :{port}'` names it; or set gateway.port to a free one.",
        )
    return BadInput(
        needed,
        found=error.strerror or str(error),
        how="Set gateway.host to an address of this machine, gateway.port to one above 1023.",
    )


def bind_unix(path: Path) -> socket.socket:
    """A listening Unix socket for the owner and its group. Raises BadInput.

    A file that a killed service left is replaced; whoever calls holds the service's lock.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        os.chmod(path, 0o660)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BadInput(
            f"The control socket {path} must be creatable.",
            found=error.strerror or str(error),
            how="Set gateway.control_socket to a place that this user may write.",
        ) from error
    listener.setblocking(False)
    return listener
