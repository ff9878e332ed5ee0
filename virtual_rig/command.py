"""Running this machine's programs, with an error that says what was run and what came back."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from virtual_rig.errors import VirtualRigError

_HEADERS = "/usr/include/stdio.h"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What a virtual rig needs of this machine, programs and files, and the Debian package of each.
_PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    _KEYRING: "debian-archive-keyring",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "gcc": "gcc",
    _HEADERS: "libc6-dev",
    "dpkg-deb": "dpkg",
    "gpg": "gnupg",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
}
# Where administrators' programs are, also for a shell whose PATH leaves them out.
_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"


def missing_packages() -> list[str]:
    """The Debian packages that this machine lacks for virtual rigs."""
    return sorted({package for need, package in _PACKAGES.items() if not is_there(need)})


def run(
    words: Sequence[str | Path], *, given: str | None = None, timeout_seconds: float = 600
) -> str:
    """Run it and return its standard output; `VirtualRigError` where it fails."""
    argv = [str(word) for word in words]
    try:
        done = subprocess.run(
            argv,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_seconds,
            env={**os.environ, "PATH": _PATH},
        )
    except FileNotFoundError as error:
        raise missing([argv[0]]) from error
    except subprocess.TimeoutExpired as error:
        raise VirtualRigError(
            f"{' '.join(argv)[:200]} must end", found=f"it ran for {timeout_seconds:g} s"
        ) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise VirtualRigError(
            f"{' '.join(argv)[:200]} must succeed",
            found=f"it ended with {done.returncode}" + (f": {said}" if said else ""),
        )
    return done.stdout


def require(*needs: str) -> None:
    """Raise one error that names every missing program or file and what brings them.

    Without arguments: all that a virtual rig needs.
    """
    absent = [need for need in needs or _PACKAGES if not is_there(need)]
    if absent:
        raise missing(absent)


def missing(needs: Sequence[str]) -> VirtualRigError:
    """The error for programs and files that this machine does not have."""
    packages = sorted({_PACKAGES.get(need, need) for need in needs})
    return VirtualRigError(
        "A virtual rig needs these of this machine: " + ", ".join(needs),
        found="they are not there",
        how=f"Run: apt-get install --yes {' '.join(packages)}",
    )


def is_there(need: str) -> bool:
    """Whether this machine has a program or, where it begins with a slash, a file."""
    return os.path.exists(need) if need.startswith("/") else bool(shutil.which(need, path=_PATH))
