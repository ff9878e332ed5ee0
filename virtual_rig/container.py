"""One boot of a box: systemd-nspawn with its own clock, cgroup and hardware."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from virtual_rig.errors import VirtualRigError

REBOOT = 133
"""nspawn's exit code where the guest asked for a reboot."""

_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
_LAUNCH = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'


@dataclass(frozen=True)
class Container:
    """What does not change from boot to boot."""

    name: str
    folder: Path
    network: str

    @property
    def root(self) -> Path:
        """The guest's root, visible to the supervisor alone."""
        return self.folder / "root"

    @property
    def cgroup(self) -> Path:
        """A control group of its own, so that nothing of a box is ever out of reach."""
        return _unified_hierarchy() / f"virtual-rig.{self.name}.{os.getpid()}"

    def start(self, console: int) -> subprocess.Popen[bytes]:
        """Boot. The guest dies with the supervisor, also where that is killed."""
        self.cgroup.mkdir(exist_ok=True)
        uptime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
        # A time namespace: /proc/uptime starts at 0 at each boot, which is how a deploy tells
        # that a reboot happened.
        clock = ["unshare", "--time", "--boottime", f"-{uptime}", "--monotonic", f"-{uptime}"]
        return subprocess.Popen(
            [*_DIE_WITH_PARENT, "sh", "-c", _LAUNCH, "sh", self.cgroup, *clock, *self._nspawn()],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
        )

    def remove_cgroup(self) -> None:
        """End what is left in the control group and remove it."""
        remove_cgroup(self.cgroup)

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            f"--machine=vr-{self.name}",
            f"--hostname={self.name}",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            f"--network-namespace-path={self.network}",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            *self._hardware(),
        ]

    def _hardware(self) -> list[str]:
        read_only = {
            "sys/bus/pci": "/sys/bus/pci",
            "sys/devices/pci0000:00": "/sys/devices/pci0000:00",
            "sys/module": "/sys/module",
        }
        binds = [
            f"--bind-ro={_escaped(self.folder / source)}:{_escaped(target)}"
            for source, target in read_only.items()
        ]
        # What lies below /proc is mounted last, from within the guest: its source is a path there.
        proc = "--bind-ro=/dev/virtual-rig/proc-driver:/proc/driver"
        return [*binds, f"--bind={_escaped(self.folder / 'device')}:/dev/virtual-rig", proc]


def check_kernel() -> None:
    """Raise where this machine's kernel lacks what a box is shown over."""
    needed = ("/sys/bus/pci", "/sys/devices/pci0000:00", "/proc/driver", "/proc/self/ns/time")
    absent = [path for path in needed if not os.path.exists(path)]
    if absent:
        raise VirtualRigError(
            "A virtual rig shows its made-up cards in the place of this machine's PCI bus",
            found=f"this kernel has no {', '.join(absent)}",
            works="a PC or a virtual machine with a PCI bus and Linux 5.6 or newer",
        )


def remove_cgroup(cgroup: Path) -> None:
    """End every process in this control group, then remove it and those below it."""
    if not cgroup.is_dir():
        return
    with contextlib.suppress(OSError):
        (cgroup / "cgroup.kill").write_text("1", encoding="ascii")
    deadline = time.monotonic() + 5
    while cgroup.is_dir() and time.monotonic() < deadline:
        for parent, _, _ in os.walk(cgroup, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(parent)
        time.sleep(0.02)


def stale_cgroups(name: str) -> list[Path]:
    """The control groups that a box of this name left behind."""
    return list(_unified_hierarchy().glob(f"virtual-rig.{name}.*"))


def _unified_hierarchy() -> Path:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise VirtualRigError(
        "A virtual rig needs control groups, version 2",
        found="no cgroup2 file system is mounted",
        how="Run: mount -t cgroup2 none /sys/fs/cgroup",
    )


def _escaped(path: Path | str) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:")
