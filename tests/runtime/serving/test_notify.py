"""systemd's notification protocol, against a real socket."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest

from rig_runtime.notify import Notifier


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_messages_arrive(kind: str, tmp_path: Path) -> None:
    word = f"@rig-{uuid.uuid4().hex}" if kind == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(word.replace("@", "\0"))
        Notifier({"NOTIFY_SOCKET": word}).send(READY=1, STATUS="a b")
        assert systemd.recv(100) == b"READY=1\nSTATUS=a b"


def test_without_systemd_nothing_is_sent() -> None:
    notifier = Notifier({})
    notifier.send(READY=1)
    assert notifier.watchdog_seconds is None


def test_a_full_socket_does_not_block(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):
            notifier.send(WATCHDOG=1)


def test_the_watchdog_s_interval_is_read() -> None:
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_seconds == 60
