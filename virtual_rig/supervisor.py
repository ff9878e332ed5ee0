"""One process for each box: it mounts, connects, boots, watches, and takes all of it with it.

Started by `up` in a mount namespace of its own, so that the box's mounts end with it; the network
is held by it, and the guest is told to die with it. `python -m virtual_rig.supervisor FOLDER`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from virtual_rig import guest, network, publish, record, root, scenario, ssh
from virtual_rig.base import base
from virtual_rig.boot import BootState, boot
from virtual_rig.container import REBOOT, Container, end, remove_cgroups
from virtual_rig.errors import BadInput, VirtualRigError
from virtual_rig.mirror import server

_SCENARIO_EVERY_SECONDS = 0.2
_DISK_EVERY_SECONDS = 2.0


class Supervisor:
    """Owns one box from its folder to its end. `record` is what it tells the others."""

    def __init__(self, folder: Path, record_: record.Record) -> None:
        self._folder = folder
        self._record = record_
        self._boot: BootState | None = None
        self._shown: scenario.Scenario | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._power_button = threading.Event()

    def run(self) -> None:
        """Until the box is told to end, or ends by itself in a way that is not a reboot."""
        self._tell(phase="starting")
        image = base(self._record.suite)
        root.mount(self._folder, image, self._record.suite)
        root.prepare(self._root, self._record.name, self._scenario())
        number, namespace = network.connect()
        self._tell(number=number)
        container = Container(self._record.name, self._folder, namespace)
        try:
            address = network.box_address(number)
            ssh.give_host_key(self._root, address, self._folder / "known_hosts")
            server.start(network.gateway_address(number))
            threading.Thread(target=self._watch, daemon=True).start()
            self._live(container)
        finally:
            self._ended.set()
            remove_cgroups(self._folder)
            network.disconnect(number)
            root.keep_archives(self._folder, self._record.suite)

    def press_power_button(self, _signal: int, _frame: FrameType | None) -> None:
        """Boot again where the guest had switched itself off."""
        self._power_button.set()

    @property
    def _root(self) -> Path:
        return self._folder / "root"

    def _scenario(self) -> scenario.Scenario:
        """The scenario; as it was last shown where a hand is still editing the file."""
        try:
            self._shown = scenario.read(self._folder / "scenario.json")
        except BadInput as error:
            if self._shown is None:
                raise
            print(f"scenario.json is left as it was shown: {error}", flush=True)
        return self._shown

    def _tell(self, **changes: object) -> None:
        self._record = replace(self._record, **changes)  # type: ignore[arg-type]
        record.write(self._folder, self._record)

    def _live(self, container: Container) -> None:
        while True:
            code = self._boot_once(container)
            if code == 0:
                self._tell(phase="off")
                self._power_button.clear()
                self._power_button.wait()
            elif code != REBOOT:
                raise VirtualRigError(
                    "The box's container must run until it is told to end",
                    found=f"systemd-nspawn ended with {code}",
                    how=f"What the box said last: {self._last_words()}",
                )

    def _boot_once(self, container: Container) -> int:
        """One life of the guest, from power on to its end: nspawn's exit code."""
        self._forget_display_overrides()
        cards = self._scenario()
        with self._lock:
            self._boot = boot(guest.look(self._root), has_cards=bool(cards.present()))
            publish.forget_settings(self._folder)
            publish.bind_library(self._root, self._boot.nvidia_version is not None)
        self._show(cards)
        self._tell(phase="running", boots=self._record.boots + 1, driver=self._boot.reason)
        with open(self._folder / "console.log", "ab") as console:
            running = container.start(console.fileno())
        try:
            return running.wait()
        finally:
            end(running)
            remove_cgroups(self._folder)

    def _forget_display_overrides(self) -> None:
        with (
            contextlib.suppress(BadInput),
            scenario.editing(self._folder / "scenario.json") as edit,
        ):
            edit.scenario = scenario.without_display_overrides(edit.scenario)

    def _show(self, cards: scenario.Scenario) -> None:
        with self._lock:
            if self._boot is not None:
                on_disk = guest.library_version(self._root)
                publish.show_cards(self._folder, cards, self._boot, on_disk)

    def _watch(self) -> None:
        """Bring what changes in the scenario or on the disk to the box's eyes."""
        seen: tuple[object, ...] = ()
        next_disk_look = 0.0
        on_disk: str | None = None
        while not self._ended.wait(_SCENARIO_EVERY_SECONDS):
            if time.monotonic() >= next_disk_look:
                next_disk_look = time.monotonic() + _DISK_EVERY_SECONDS
                on_disk = guest.library_version(self._root)
                root.keep_archives(self._folder, self._record.suite)
            status = (self._folder / "scenario.json").stat()
            now = (status.st_mtime_ns, status.st_ino, on_disk)
            if now != seen:
                seen = now
                self._show(self._scenario())

    def _last_words(self) -> str:
        log = self._folder / "console.log"
        return log.read_text(encoding="utf-8", errors="replace")[-600:] if log.exists() else ""


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main(folder: Path) -> int:
    """Supervise the box in this folder; the request is in its `request.json`."""
    name, suite = folder.name, (folder / "suite").read_text(encoding="ascii").strip()
    started = record.process_started(os.getpid())
    own = record.Record(name, suite, os.getpid(), started or 0)
    supervisor = Supervisor(folder, own)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGUSR1, supervisor.press_power_button)
    try:
        supervisor.run()
    except VirtualRigError as error:
        record.write(folder, replace(own, phase="failed", error=error.as_json()))
        print(error, flush=True)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
