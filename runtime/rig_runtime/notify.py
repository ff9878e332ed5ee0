"""systemd's notification protocol (sd_notify(3)): readiness, a status line, the watchdog."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

MICROSECONDS = 1_000_000


class Notifier:
    """Does nothing where the service was not started by systemd."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / MICROSECONDS if microseconds else None

    def send(self, **values: str | int) -> None:
        """`send(READY=1, STATUS="…")`. A message that cannot be delivered at once is dropped: the
        service does not wait for its supervisor."""
        if not self._address:
            return
        # '@' stands for the abstract namespace
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        text = "\n".join(f"{name}={value}" for name, value in values.items())
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as out:
            out.connect(address)
            out.sendall(text.encode())

    async def keep_alive(self) -> None:
        """Feed the watchdog for as long as this event loop turns."""
        while self.watchdog_seconds:
            self.send(WATCHDOG=1)
            await asyncio.sleep(self.watchdog_seconds / 2)
