"""A host of the inventory, reached with plain ssh: for what `./rig up` shows after the deploy."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rig_runtime.errors import CheckFailed

CONNECT_SECONDS = 15


@dataclass(frozen=True)
class Remote:
    """A host by its inventory name, with the connector data that pyinfra would use."""

    name: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """What ssh and a browser connect to."""
        return str(self.data.get("ssh_hostname", self.name))

    def ssh(self, *options: str) -> list[str]:
        """The ssh command up to and including the host."""
        words = ["ssh", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}"]
        if key := self.data.get("ssh_key"):
            words += ["-i", str(key), "-o", "IdentitiesOnly=yes"]
        if known_hosts := self.data.get("ssh_known_hosts_file"):
            words += ["-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=yes"]
        if port := self.data.get("ssh_port"):
            words += ["-p", str(port)]
        user = self.data.get("ssh_user")
        return [*words, *options, f"{user}@{self.address}" if user else self.address]

    def run(self, command: str) -> str:
        """The standard output of a command there; its error text goes into a `CheckFailed`."""
        done = subprocess.run(
            [*self.ssh(), command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CheckFailed(
                f"{self.name}: `{command}` must succeed",
                found=f"it ended with {done.returncode}: {(done.stderr or done.stdout).strip()}",
                how=f"Look at it there: {' '.join(self.ssh())}",
            )
        return done.stdout

    @contextmanager
    def forward(self, port: int) -> Iterator[int]:
        """A local port that reaches `port` on that host's loopback, for as long as needed."""
        local = _free_port()
        words = self.ssh("-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{port}")
        tunnel = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        try:
            _await_listener(local, tunnel)
            yield local
        finally:
            tunnel.terminate()
            tunnel.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _await_listener(port: int, tunnel: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + CONNECT_SECONDS
    while time.monotonic() < deadline and tunnel.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise CheckFailed("an SSH tunnel to the gateway must open", found="it did not")
