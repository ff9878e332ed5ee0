"""Talking to a box, and waiting for what it will say."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

from virtual_rig import Box


def run(box: Box, command: str, *, given: str = "") -> str:
    """What the command prints in the box; it must succeed."""
    done = subprocess.run(
        box.ssh_command([command]), input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr or done.stdout}"
    return done.stdout.strip()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Poll until it is true; the last value where it never is."""
    deadline = time.monotonic() + seconds
    while not (last := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still {last!r}"
        time.sleep(0.1)


def reboot(box: Box) -> None:
    """Reboot and wait for the next boot to answer: its clock is younger than ours."""
    before = float(run(box, "cut -d' ' -f1 /proc/uptime"))
    asked = time.monotonic()
    subprocess.run(box.ssh_command(["systemctl reboot"]), capture_output=True, check=False)

    def is_new() -> bool:
        done = subprocess.run(
            box.ssh_command(["cut -d' ' -f1 /proc/uptime"]),
            capture_output=True,
            text=True,
            check=False,
        )
        expected = before + time.monotonic() - asked
        return done.returncode == 0 and float(done.stdout) < expected - 1

    until(is_new, 60)
