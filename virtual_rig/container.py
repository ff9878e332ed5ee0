"""One boot of a box: systemd-nspawn with its own clock, cgroup and hardware."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from virtual_rig import paths
from virtual_rig.errors import VirtualRigError

REBOOT = 133
"""nspawn's exit code where the guest asked for a reboot."""

_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
_REMOVAL_SECONDS = 5.0
_PROPAGATION = Path("/run/systemd/nspawn/propagate")
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
        return _unified_hierarchy() / _group_name(self.folder)

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

    def _nspawn(self) -> list[str]:
        return [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.root}",
            f"--machine={_machine(self.folder)}",
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


def remove_cgroups(folder: Path) -> None:
    """End every process in the control groups of the box in this folder, and remove them.

    In all hierarchies: nspawn mirrors its groups in that of older systemds where there is one.
    """
    deadline = time.monotonic() + _REMOVAL_SECONDS
    while time.monotonic() < deadline:
        groups = [place / _group_name(folder) for place in _hierarchies()]
        groups = [group for group in groups if group.is_dir()]
        if not groups:
            return
        for group in groups:
            with contextlib.suppress(OSError):
                (group / "cgroup.kill").write_text("1", encoding="ascii")
            for parent, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(parent)
        time.sleep(0.02)


def forget(folder: Path) -> None:
    """Remove what a killed nspawn leaves in /run of the box in this folder."""
    with contextlib.suppress(OSError):
        (_PROPAGATION / _machine(folder)).rmdir()


def end(nspawn: subprocess.Popen[bytes]) -> None:
    """End the guest at once: its first process, then nspawn, which tidies up, ends by itself."""
    children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
    with contextlib.suppress(OSError):
        for pid in children.read_text(encoding="ascii").split():
            os.kill(int(pid), signal.SIGKILL)
    try:
        nspawn.wait(timeout=_REMOVAL_SECONDS)
    except subprocess.TimeoutExpired:
        nspawn.kill()
        nspawn.wait()


def _machine(folder: Path) -> str:
    return f"vr-{paths.unique(folder)}"


def _group_name(folder: Path) -> str:
    return f"virtual-rig.{paths.unique(folder)}"


def _unified_hierarchy() -> Path:
    for place, kind in _mounts():
        if kind == "cgroup2":
            return place
    raise VirtualRigError(
        "A virtual rig needs control groups, version 2",
        found="no cgroup2 file system is mounted",
        how="Run: mount -t cgroup2 none /sys/fs/cgroup",
    )


def _hierarchies() -> list[Path]:
    return [place for place, kind in _mounts() if kind in ("cgroup", "cgroup2")]


def _mounts() -> list[tuple[Path, str]]:
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [(Path(line.split()[1]), line.split()[2]) for line in lines]


def _escaped(path: Path | str) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:")
