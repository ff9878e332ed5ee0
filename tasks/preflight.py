"""Pure: everything that stands in the way, found before the first change and told at once."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.facts import DriverState, HostState, Leftovers
from tasks.problems import Problem
from tasks.wishes import Wishes

GIB = 1 << 30
ARCHITECTURE = "amd64"


def host_problems(host: HostState) -> list[Problem]:
    """What the machine itself must be; the distribution is the driver source's to refuse."""
    problems = []
    if host["architecture"] != ARCHITECTURE:
        problems.append(
            Problem(
                f"the rig must be an {ARCHITECTURE} (x86-64) machine",
                found=f"it is {host['architecture'] or 'of unknown architecture'}",
            )
        )
    if not host["systemd"]:
        problems.append(
            Problem(
                "systemd must run the rig",
                found="/run/systemd/system is missing",
                works="an ordinary installation of a supported distribution",
            )
        )
    return problems


def secure_boot_problems(host: HostState, driver: DriverState) -> list[Problem]:
    """DKMS signs with a key of its own, which firmware trusts only after a visit to the console."""
    if not host["secure_boot"] or driver["loaded_version"]:
        return []
    return [
        Problem(
            "the firmware must accept the NVIDIA kernel module",
            found="Secure Boot is on, and it does not know the key of a module that is built here",
            works="Secure Boot off in the firmware's set-up, or the key enrolled at the console",
            how="run `mokutil --import /var/lib/dkms/mok.pub` on the rig, reboot, confirm there",
        )
    ]


def leftover_problems(leftovers: Leftovers) -> list[Problem]:
    """What an earlier installation left and package management cannot see."""
    problems = []
    if leftovers["runfile"]:
        problems.append(
            Problem(
                "the driver must be the package manager's",
                found=f"a .run installation: {', '.join(leftovers['runfile'])}",
                works="the same host without it",
                how="run `sudo nvidia-uninstall --silent` on the rig, then this again",
            )
        )
    return problems


def model_problems(wishes: Wishes) -> list[Problem]:
    """A service with an engine needs a model to serve."""
    if wishes.models or wishes.vllm_build == "none":
        return []
    return [
        Problem(
            "the rig must have a model to serve",
            found="models is empty",
            works="a directory on the rig with a config.json and weights, or a tiny made-up model",
            how='set models = [{"name": "…", "path": "/…"}] in inventory.py',
        )
    ]


def disk_problems(host: HostState, needed_bytes: Mapping[str, int]) -> list[Problem]:
    """Free space, summed over the paths that are on one file system."""
    by_mount: dict[str, list[str]] = {}
    for path in needed_bytes:
        if disk := host["disks"].get(path):
            by_mount.setdefault(disk["mount"], []).append(path)
    problems = []
    for paths in by_mount.values():
        needed = sum(needed_bytes[path] for path in paths)
        available = host["disks"][paths[0]]["available_bytes"]
        if available < needed:
            problems.append(_too_full(paths, needed, available))
    return problems


def _too_full(paths: list[str], needed: int, available: int) -> Problem:
    return Problem(
        f"{needed / GIB:.1f} GiB must be free for {' and '.join(paths)}",
        found=f"{available / GIB:.1f} GiB is",
        works="a larger disk, or the difference freed",
        how="`sudo apt-get clean` and `sudo du -xsh /var /opt` on the rig show where to look",
    )


def reachability_problems(unreachable: list[str]) -> list[Problem]:
    """The addresses that the rig itself must download from."""
    return [
        Problem(
            f"the rig must reach {address}",
            found="it cannot download from there",
            works="a network, or a proxy in apt's configuration there, or a mirror that it reaches",
            how='set mirror_url = "http://…" in inventory.py',
        )
        for address in unreachable
    ]
