"""Base images: a minimal Debian as its installer leaves it, made once for each suite."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from virtual_rig import paths
from virtual_rig.command import run
from virtual_rig.errors import BadInput, VirtualRigError

SUITES = ("bookworm", "trixie")
NEEDED_BYTES = 3 << 30
"""Room for one base image and what a box writes above it; seen: 1.0 GiB for the image."""

_MIRROR = "http://deb.debian.org/debian"
_SECURITY = "http://deb.debian.org/debian-security"
_PACKAGES = (
    "systemd,systemd-sysv,dbus,openssh-server,sudo,iproute2,ca-certificates,udev,kmod,pciutils,"
    "procps,netbase,apt-utils,linux-image-amd64,initramfs-tools"
)
_OPTIONS = ("--variant=minbase", "--format=directory", f"--include={_PACKAGES}")
# Run on the new root ($1) before it is taken: the users that a person logs in as, no host keys
# (each box gets its own), and no fsync of every unpacked file in a box that is thrown away.
_CUSTOMIZE = (
    'chroot "$1" useradd --create-home --shell /bin/bash rig',
    'echo "rig ALL=(ALL) NOPASSWD:ALL" > "$1/etc/sudoers.d/rig"',
    'chmod 0440 "$1/etc/sudoers.d/rig"',
    'rm -f "$1"/etc/ssh/ssh_host_* "$1/etc/machine-id"',
    'echo force-unsafe-io > "$1/etc/dpkg/dpkg.cfg.d/virtual-rig"',
    'install -d -m 0700 "$1/root/.ssh"',
    'install -d -m 0700 -o 1000 -g 1000 "$1/home/rig/.ssh"',
)


def base(suite: str) -> Path:
    """The base image of this suite, built where this recipe of it is not there yet."""
    if suite not in SUITES:
        raise BadInput(
            f"A virtual rig can be one of these Debian suites: {', '.join(SUITES)}",
            found=f"{suite!r} was asked for",
        )
    image = _image(suite)
    folder = image.parent
    if image.exists():
        os.utime(image)
        return image
    check_room(paths.cache(), NEEDED_BYTES)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f".{suite}.lock"):
        if not image.exists():
            _remove_old(folder, suite)
            _build(suite, image)
    os.utime(image)
    return image


def is_built(suite: str) -> bool:
    """Whether `base` has nothing to do."""
    return _image(suite).exists()


def _image(suite: str) -> Path:
    return paths.cache() / "base" / f"{suite}-{_digest(suite)}"


def check_room(place: Path, needed_bytes: int) -> None:
    """Raise where the file system that `place` is or will be on has less room than this."""
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise VirtualRigError(
            f"A virtual rig needs {needed_bytes / 2**30:.1f} GiB of disk under {place}",
            found=f"{free / 2**30:.1f} GiB are free",
            works="another disk, named by VIRTUAL_RIG_STATE and VIRTUAL_RIG_CACHE",
            how="Make room, or run: python -m virtual_rig down --all --purge-cache",
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this file; it falls by itself when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _digest(suite: str) -> str:
    recipe = "\n".join((suite, _PACKAGES, *_sources(suite), *_CUSTOMIZE))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _sources(suite: str) -> tuple[str, ...]:
    parts = "main non-free-firmware"
    return (
        f"deb {_MIRROR} {suite} {parts}",
        f"deb {_MIRROR} {suite}-updates {parts}",
        f"deb {_SECURITY} {suite}-security {parts}",
    )


def _remove_old(folder: Path, suite: str) -> None:
    """Images that nobody finished, and those of an older recipe that no box began with lately."""
    for leftover in folder.glob(f"{suite}-*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    month_ago = time.time() - 30 * 24 * 3600
    for image in folder.glob(f"{suite}-*"):
        if image.stat().st_mtime < month_ago:
            shutil.rmtree(image, ignore_errors=True)


def _build(suite: str, image: Path) -> None:
    part = image.with_name(image.name + ".part")
    hooks = [f"--customize-hook={line}" for line in _CUSTOMIZE]
    try:
        run(
            ["mmdebstrap", *_OPTIONS, *hooks, suite, part, *_sources(suite)],
            timeout_seconds=1800,
        )
        os.rename(part, image)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
