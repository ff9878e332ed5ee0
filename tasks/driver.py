"""The NVIDIA driver: one headless compute set, built for the kernel that will boot.

Order matters: nouveau and nova are blocked before the packages come, headers before DKMS, and the
proof is `dkms status`, because apt succeeds without a module where headers are missing.
"""

from __future__ import annotations

from io import StringIO

from pyinfra.api import deploy
from pyinfra.operations import files, systemd

from tasks.driver_choice import DriverChoice
from tasks.operations import apt_hold, dkms_installed, dpkg_finished, kernel_headers
from tasks.package_source import driver_packages, keyring
from tasks.sources import DriverSource
from tasks.templates import written

# nova_core is the kernel's new driver for Turing and later: it takes the cards before ours can.
BLOCKED_MODULES = ("nouveau", "nova_core", "nova_drm")
APT_LOCK_TIMEOUT_SECONDS = 600


@deploy("Packages")
def packages_ready() -> None:
    """Wait for apt's lock instead of failing, and finish what an interrupted run left."""
    files.put(
        name="Wait for other package managers",
        src=StringIO(f'DPkg::Lock::Timeout "{APT_LOCK_TIMEOUT_SECONDS}";\n'),
        dest="/etc/apt/apt.conf.d/90rig-lock",
        mode="644",
    )
    dpkg_finished(name="Finish interrupted package installations")


@deploy("Driver")
def nvidia_driver(source: DriverSource | None, choice: DriverChoice | None) -> None:
    """Install and prove the driver; nothing to do on a host without NVIDIA cards."""
    if source is None or choice is None:
        return
    written(
        "modprobe-blocked.conf",
        "/etc/modprobe.d/rig-blocked.conf",
        name="Block nouveau and nova",
        modules=BLOCKED_MODULES,
    )
    _source_files(source)
    wanted = source.packages(choice.flavour)
    kernel_headers(
        name="Headers of the kernel that will boot",
        image_package=source.row.kernel_packages[0],
        headers_package=source.row.kernel_packages[1],
        headers=source.row.headers_package,
    )
    driver_packages(
        name=f"Driver {choice.branch}, {choice.flavour} kernel modules, headless",
        packages=[*source.pin_packages(), *wanted],
        branch=choice.branch,
    )
    dkms_installed(name="The module is built for the kernel that will boot")
    apt_hold(name="Hold the driver at its version", packages=wanted)
    systemd.service(
        name="Keep the driver's state between uses",
        service="nvidia-persistenced",
        running=None,
        enabled=True,
    )


def _source_files(source: DriverSource) -> None:
    if source.key_address:
        keyring(
            name="Key of the driver's packages",
            address=source.key_address,
            path=source.row.keyring,
        )
    written(
        "driver.sources",
        "/etc/apt/sources.list.d/rig-driver.sources",
        name=f"Driver packages from {source.repositories[0].address}",
        source=source,
    )
    written(
        "driver.preferences",
        "/etc/apt/preferences.d/rig-driver",
        name=f"Stay on branch {source.branch}",
        branch=source.branch,
    )
