"""Bringing boxes up and taking them down."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from virtual_rig import base, container, network, paths, record, scenario, ssh
from virtual_rig.base import NEEDED_BYTES, SUITES, check_room, locked
from virtual_rig.command import require
from virtual_rig.errors import BadInput, VirtualRigError
from virtual_rig.mirror import apt, server
from virtual_rig.nvml import build

_UP_SECONDS = 120.0
_SSH_SECONDS = 120.0
_GONE_SECONDS = 5.0
_DETACHED = ("setsid", "--fork", "unshare", "--mount", "--propagation", "private")


@dataclass(frozen=True)
class Box:
    """A living box. `gateway_address` is this machine as the box sees it."""

    name: str
    suite: str
    address: str
    gateway_address: str
    ssh_key: Path
    known_hosts: Path
    mirror_url: str
    scenario_path: Path

    def pyinfra_host(self, user: str = "root") -> tuple[str, dict[str, Any]]:
        """The host as pyinfra's inventory takes it, with the host key checked strictly."""
        return self.name, {
            "ssh_hostname": self.address,
            "ssh_user": user,
            "ssh_key": str(self.ssh_key),
            "ssh_known_hosts_file": str(self.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "mirror_url": self.mirror_url,
            "virtual": True,
        }

    def ssh_command(self, words: list[str]) -> list[str]:
        """The command line that runs `words` in the box as root; without words, a shell."""
        return ssh.command(self.address, self.ssh_key, self.known_hosts, words)

    def as_json(self) -> dict[str, str]:
        """All values, as text."""
        return {key: str(value) for key, value in asdict(self).items()}


def up(
    name: str,
    *,
    suite: str = "bookworm",
    cards: Path | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Box:
    """Bring up a fresh box with these cards and wait until it answers over SSH.

    `tell` is called with what takes long, where something does: the first box of a suite.
    A box of this name that is switched off is switched on again and keeps its disk and cards;
    what is left of one that died is removed first.
    """
    folder = record.folder_of(name)
    wanted = scenario.read(cards) if cards else scenario.Scenario()
    _check(suite)
    _prepare(suite, tell)
    with locked(paths.locks() / paths.unique(folder)):
        there = record.read(folder)
        if there and there.alive() and there.phase in ("running", "off"):
            _switch_on(there)
            return _wait(folder)
        # Also one that starts: whoever wanted it would hold the lock, so nobody has used it.
        _remove(folder)
        _create(folder, suite, wanted)
        _start(folder)
        return _wait(folder)


def down(name: str) -> bool:
    """Remove the box, living or dead, and all that belongs to it; False where there was none."""
    folder = record.folder_of(name)
    require_root()
    with locked(paths.locks() / paths.unique(folder)):
        there = folder.is_dir()
        _remove(folder)
    return there


def find(name: str) -> Box | None:
    """The box with this name, where it lives and is switched on."""
    folder = record.folder_of(name)
    there = record.read(folder)
    if there is None or not there.alive() or there.phase != "running":
        return None
    return _box(folder, there)


def phase_of(folder: Path) -> record.Phase:
    """What a box does; dead where nobody supervises it any more."""
    there = record.read(folder)
    return there.phase if there and there.alive() else "dead"


def require_root() -> None:
    """Raise where this is not root: every box is made of what only root may make and see."""
    if os.geteuid() != 0:
        raise VirtualRigError(
            "A virtual rig makes namespaces and mounts, which only root may",
            found=f"this is user {os.geteuid()}",
            how="Run the same command with: sudo",
        )


def _check(suite: str) -> None:
    """All that this machine must have, before anything is made."""
    if suite not in SUITES:
        raise BadInput(
            f"A virtual rig can be one of these Debian suites: {', '.join(SUITES)}",
            found=f"{suite!r} was asked for",
        )
    require_root()
    require()
    container.check_kernel()
    check_room(paths.state(), NEEDED_BYTES)
    build.library()


def _prepare(suite: str, tell: Callable[[str], None]) -> None:
    """What all boxes share, made where it is not there yet."""
    if not base.is_built(suite):
        tell(f"making the base image of Debian {suite}, once: a minute or two")
    base.base(suite)
    apt.repository()


def _switch_on(there: record.Record) -> None:
    if there.phase != "off":
        raise BadInput(
            f"The box's name must be free: {there.name}",
            found=f"a box of this name is {there.phase}",
            works="another name, or the box that is there",
            how=f"Remove it with: python -m virtual_rig down {there.name}",
        )
    os.kill(there.supervisor_pid, signal.SIGUSR1)


def _create(folder: Path, suite: str, cards: scenario.Scenario) -> None:
    folder.mkdir(parents=True, mode=0o700)
    for name in ("device", "sys", "device/proc-driver"):
        (folder / name).mkdir(mode=0o755)
    (folder / "suite").write_text(suite + "\n", encoding="ascii")
    scenario.write(folder / "scenario.json", cards)


def _start(folder: Path) -> None:
    """The supervisor, in its own session and mount namespace, and nobody's child."""
    own = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (own, os.environ.get("PYTHONPATH"))))
    with open(folder / "supervisor.log", "ab") as log:
        subprocess.run(
            [*_DETACHED, sys.executable, "-m", "virtual_rig.supervisor", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, "PYTHONPATH": path},
            check=True,
        )


def _wait(folder: Path) -> Box:
    """Until the box answers; the supervisor's own error where it gives up."""
    box = _box(folder, _await_running(folder))
    deadline = time.monotonic() + _SSH_SECONDS
    while not _answers(box):
        if time.monotonic() > deadline or phase_of(folder) != "running":
            raise _no_answer(folder, box)
        time.sleep(0.1)
    return box


def _await_running(folder: Path) -> record.Record:
    """The record of the living box. A process that starts another shows no name for a moment."""
    began = seen = time.monotonic()
    while time.monotonic() - began < _UP_SECONDS and time.monotonic() - seen < _GONE_SECONDS:
        there = record.read(folder)
        if there and there.phase == "running" and there.alive():
            return there
        if there and there.phase == "failed" and there.error:
            raise VirtualRigError(**there.error)
        if record.processes_naming(folder):
            seen = time.monotonic()
        time.sleep(0.1)
    raise VirtualRigError(
        f"The supervisor of {folder.name} must bring the box up",
        found=_tail(folder / "supervisor.log")
        or f"it was not done after {time.monotonic() - began:.0f} s",
    )


def _answers(box: Box) -> bool:
    """Whether SSH works as a deploy will use it: the key, the host key, a command."""
    try:
        socket.create_connection((box.address, 22), timeout=1).close()
    except OSError:
        return False
    done = subprocess.run(
        box.ssh_command(["true"]), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return done.returncode == 0


def _no_answer(folder: Path, box: Box) -> VirtualRigError:
    return VirtualRigError(
        f"The box {box.name} must answer SSH at {box.address}",
        found=f"no answer, and its console said last: {_tail(folder / 'console.log')}",
        how=f"Try again after: python -m virtual_rig down {box.name}",
    )


def _tail(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-800:].strip() if log.exists() else ""


def _box(folder: Path, there: record.Record) -> Box:
    gateway = network.gateway_address(there.number)
    return Box(
        name=there.name,
        suite=there.suite,
        address=network.box_address(there.number),
        gateway_address=gateway,
        ssh_key=ssh.client_key(),
        known_hosts=folder / "known_hosts",
        mirror_url=server.url(gateway),
        scenario_path=folder / "scenario.json",
    )


def _remove(folder: Path) -> None:
    """End the box's processes, then remove what they held and what a killed one could not."""
    there = record.read(folder)
    _end_processes(folder)
    container.remove_cgroups(folder)
    container.forget(folder)
    network.disconnect(there.number if there else None)
    shutil.rmtree(folder, ignore_errors=True)


def _end_processes(folder: Path) -> None:
    """Ask, then insist."""
    for number, patience_seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + patience_seconds
        for pid in record.processes_naming(folder):
            _signal(pid, number)
        while record.processes_naming(folder) and time.monotonic() < deadline:
            time.sleep(0.05)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
