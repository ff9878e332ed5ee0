"""Where driver packages come from: one row for each distribution and kind of source.

nvidia        NVIDIA's own apt repository
mirror        a copy of it (or a smaller one with the same names) at an address of yours
distribution  what the distribution itself packages: older branches, enough for older engines
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tasks.facts import HostState
from tasks.generations import Flavour
from tasks.problems import Problem
from tasks.wishes import DriverSourceWish

Kind = Literal["nvidia", "mirror", "distribution"]

# The long-term branch (until June 2028): the newest that serves Maxwell to Blackwell, and all of
# CUDA 13 by minor-version compatibility.
DEFAULT_BRANCH = 580


@dataclass(frozen=True)
class Repository:
    """One apt repository; `{base}` in its address stands for a mirror's."""

    address: str
    suites: tuple[str, ...] = ("/",)


@dataclass(frozen=True)
class SourceRow:
    """What one distribution installs from one kind of source.

    `branch` None means that the repository carries several and the inventory chooses.
    Key addresses are armored or binary keys; without one the distribution's own keyring serves.
    """

    repositories: tuple[Repository, ...]
    components: tuple[str, ...]
    key_address: str | None
    keyring: str
    branch: int | None
    packages: Mapping[Flavour, tuple[str, ...]]
    pin_package: str | None = None
    kernel_packages: tuple[str, str] = ("linux-image-amd64", "linux-headers-amd64")
    headers_package: str = "linux-headers-{kernel}"


_NVIDIA_PACKAGES: Mapping[Flavour, tuple[str, ...]] = {
    "open": ("nvidia-driver-cuda", "nvidia-kernel-open-dkms", "nvidia-persistenced"),
    "proprietary": ("nvidia-driver-cuda", "nvidia-kernel-dkms", "nvidia-persistenced"),
}
_DEBIAN_PACKAGES: Mapping[Flavour, tuple[str, ...]] = {
    "open": ("nvidia-open-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
    "proprietary": ("nvidia-kernel-dkms", "nvidia-smi", "libcuda1", "nvidia-persistenced"),
}
_OUR_KEYRING = "/etc/apt/keyrings/rig-driver.asc"
_NVIDIA_BASE = "https://developer.download.nvidia.com/compute/cuda/repos"


def _nvidia(folder: str, key: str) -> SourceRow:
    address = f"{_NVIDIA_BASE}/{folder}/x86_64/"
    return SourceRow(
        repositories=(Repository(address),),
        components=(),
        key_address=address + key,
        keyring=_OUR_KEYRING,
        branch=None,
        packages=_NVIDIA_PACKAGES,
        pin_package="nvidia-driver-pinning-{branch}",
    )


def _mirror() -> SourceRow:
    return SourceRow(
        repositories=(Repository("{base}/apt/"),),
        components=(),
        key_address="{base}/apt/key.asc",
        keyring=_OUR_KEYRING,
        branch=None,
        packages=_NVIDIA_PACKAGES,
        pin_package="nvidia-driver-pinning-{branch}",
    )


def _debian(codename: str, branch: int) -> SourceRow:
    # The security suite too: its newer firmware would not match the older module's version.
    return SourceRow(
        repositories=(
            Repository("http://deb.debian.org/debian/", (codename, f"{codename}-updates")),
            Repository("http://deb.debian.org/debian-security/", (f"{codename}-security",)),
        ),
        components=("contrib", "non-free", "non-free-firmware"),
        key_address=None,
        keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
        branch=branch,
        packages=_DEBIAN_PACKAGES,
    )


# Debian 13 refuses the SHA-1 bound key of NVIDIA's older repositories: its own has a new one.
ROWS: Mapping[tuple[str, str, Kind], SourceRow] = {
    ("debian", "12", "nvidia"): _nvidia("debian12", "3bf863cc.pub"),
    ("debian", "12", "mirror"): _mirror(),
    ("debian", "12", "distribution"): _debian("bookworm", 535),
    ("debian", "13", "nvidia"): _nvidia("debian13", "8793F200.pub"),
    ("debian", "13", "mirror"): _mirror(),
    ("debian", "13", "distribution"): _debian("trixie", 550),
}


@dataclass(frozen=True)
class DriverSource:
    """One row with its blanks filled in: what is written to the host."""

    kind: Kind
    repositories: tuple[Repository, ...]
    key_address: str | None
    branch: int
    row: SourceRow = field(repr=False)

    @property
    def probe_address(self) -> str:
        """A small file of the repository: who can download it can download the rest."""
        first = self.repositories[0]
        return self.key_address or f"{first.address}dists/{first.suites[0]}/Release"

    def packages(self, flavour: Flavour) -> list[str]:
        """The headless compute set; no X, no GL."""
        return list(self.row.packages[flavour])

    def pin_packages(self) -> list[str]:
        """The vendor's own pinning package, where there is one."""
        pin = self.row.pin_package
        return [pin.format(branch=self.branch)] if pin else []


def supported() -> str:
    """The distributions that have a row, for messages."""
    return ", ".join(sorted({f"{name} {version}" for name, version, _ in ROWS}))


def source_for(host: HostState, wanted: DriverSourceWish) -> DriverSource | Problem:
    """The source that the inventory asks for, as this host's distribution has it."""
    distribution, version = host["distribution"] or "unknown", host["version"] or "unknown"
    row = ROWS.get((distribution, version, wanted.kind))
    if row is None:
        return Problem(
            f"driver packages of kind {wanted.kind} must exist for {distribution} {version}",
            found="there is no row for it",
            works=f"supported are {supported()}",
            how="install one of these on the rig",
        )
    base = (wanted.address or "").rstrip("/")
    if wanted.kind == "mirror" and not base:
        return Problem(
            "a mirror of driver packages must have an address",
            found='driver_source has the kind "mirror" and no address',
            how='set driver_source = {"kind": "mirror", "address": "http://…"} in inventory.py',
        )
    return DriverSource(
        kind=wanted.kind,
        repositories=tuple(
            Repository(each.address.format(base=base), each.suites) for each in row.repositories
        ),
        key_address=row.key_address.format(base=base) if row.key_address else None,
        branch=row.branch or wanted.branch or DEFAULT_BRANCH,
        row=row,
    )
