"""Running this machine's programs, with an error that says what was run and what came back."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from virtual_rig.errors import VirtualRigError

# program: the Debian package that has it
_PACKAGES = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "gcc": "gcc libc6-dev",
    "dpkg-deb": "dpkg",
    "dpkg-scanpackages": "dpkg-dev",
    "gpg": "gnupg",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}


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


def require(*programs: str) -> None:
    """Raise one error that names every missing program and the command that brings them."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        raise missing(absent)


def missing(programs: Sequence[str]) -> VirtualRigError:
    """The error for programs that this machine does not have."""
    packages = sorted({_PACKAGES.get(program, program) for program in programs})
    return VirtualRigError(
        "A virtual rig needs these programs on this machine: " + ", ".join(programs),
        found="they are not in the PATH",
        how=f"Run: apt-get install --yes {' '.join(packages)}",
    )
