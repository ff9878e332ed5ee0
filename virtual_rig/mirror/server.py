"""Serves the mirror's folder on this machine's end of a box's cable."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from virtual_rig import paths
from virtual_rig.errors import VirtualRigError

PORT = 8077


def url(address: str) -> str:
    """The mirror's address for the box whose gateway this is."""
    return f"http://{address}:{PORT}/"


def start(address: str) -> None:
    """Serve from a thread for as long as this process lives; folders are shown as pages."""
    folder = paths.cache() / "mirror"
    folder.mkdir(parents=True, exist_ok=True)
    handler = partial(_Quiet, directory=str(folder))
    try:
        http = ThreadingHTTPServer((address, PORT), handler)
    except OSError as error:
        raise VirtualRigError(
            f"The box's mirror is served on {address}:{PORT}",
            found=str(error),
            how=f"End what listens there: ss -ltnp 'sport = :{PORT}'",
        ) from error
    threading.Thread(target=http.serve_forever, daemon=True).start()


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files and folders without a line on standard error for each."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a deploy makes hundreds of requests."""
