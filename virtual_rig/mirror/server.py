"""Serves the mirror's folder on this machine's end of a box's cable."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from virtual_rig import paths
from virtual_rig.errors import VirtualRigError

PORT = 8077
# A box's end of the cable goes first, its supervisor with the mirror's socket some seconds later.
_HANDOVER_SECONDS = 30.0


def url(address: str) -> str:
    """The mirror's address for the box whose gateway this is."""
    return f"http://{address}:{PORT}/"


def start(address: str) -> None:
    """Serve from a thread for as long as this process lives; folders are shown as pages."""
    folder = paths.cache() / "mirror"
    folder.mkdir(parents=True, exist_ok=True)
    handler = partial(_Quiet, directory=str(folder))
    http = _listen(address, handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()


def _listen(address: str, handler: Callable[..., SimpleHTTPRequestHandler]) -> ThreadingHTTPServer:
    """The listening server; waits while a box that ends still holds the address it had."""
    deadline = time.monotonic() + _HANDOVER_SECONDS
    while True:
        try:
            return ThreadingHTTPServer((address, PORT), handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise VirtualRigError(
                f"The box's mirror is served on {address}:{PORT}",
                found=str(error),
                how=f"End what listens there: ss -ltnp 'sport = :{PORT}'",
            ) from error


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files and folders without a line on standard error for each."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a deploy makes hundreds of requests."""
