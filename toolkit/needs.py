"""What a virtual rig needs of this machine, found out before anything starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from rig_runtime.errors import CheckFailed
from virtual_rig.command import missing_packages


def ensure_virtual_rig() -> None:
    """Install what is missing where that is allowed; else say the command that provides it.

    Raises `CheckFailed` when this user may not start containers or a package cannot be had.
    """
    if not sys.platform.startswith("linux"):
        raise CheckFailed(
            "A virtual rig needs Linux",
            found=f"this is {sys.platform}",
            works="./rig up HOST provisions a real rig from any system that has ssh",
        )
    packages = missing_packages()
    if os.geteuid() != 0:
        install = f"sudo apt-get install {' '.join(packages)} && " if packages else ""
        raise CheckFailed(
            "A virtual rig needs root: it starts a container with its own network",
            found=f"this is user {os.geteuid()}",
            works="./rig up HOST provisions a real rig without root here",
            how=f"Run: {install}sudo ./rig up",
        )
    if packages:
        _install(packages)


def _install(packages: list[str]) -> None:
    command = ["apt-get", "install", "-qy", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        raise CheckFailed(
            f"A virtual rig needs {', '.join(packages)}",
            found="this machine has no apt-get",
            how="Install them with your distribution's package manager",
        )
    print(f"rig: installing what a virtual rig needs: {' '.join(packages)}", file=sys.stderr)
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for words in (["apt-get", "update", "-q"], command):
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise CheckFailed(
                f"A virtual rig needs {', '.join(packages)}",
                found=f"`{' '.join(words)}` failed: {done.stdout.strip()[-800:]}",
                how=f"Mend that, then: {' '.join(command)}",
            )
