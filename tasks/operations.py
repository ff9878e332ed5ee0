"""The operations that pyinfra lacks. Each reads its fact when it runs and acts only on that.

What a run that was killed left undone is seen by the next one: nothing here hangs on "it changed".
An operation that finds nothing to do yields nothing, so that a second run reports no change.
"""

from __future__ import annotations

from collections.abc import Callable

from pyinfra import host
from pyinfra.api import QuoteString, StringCommand, operation
from pyinfra.facts.apt import noninteractive_apt
from pyinfra.facts.deb import DebPackage
from pyinfra.operations import server

from tasks.commands import Commands, failure, say
from tasks.facts import Display, Driver, Host, LeftoverFiles
from tasks.problems import Problem
from tasks.reboot_reasons import dkms_built, reboot_reasons

REBOOT_TIMEOUT_SECONDS = 900


@operation()
def require(problems: list[Problem]) -> Commands:
    """Fail this host with every problem at once, before anything is changed."""
    if problems:
        yield failure(*problems)
    else:
        host.noop("nothing stands in the way")


@operation()
def dpkg_finished() -> Commands:
    """Finish what an interrupted dpkg left half-installed."""
    leftovers = host.get_fact(LeftoverFiles)
    if leftovers["dpkg_audit"] or leftovers["interrupted_dpkg"]:
        yield StringCommand(
            "DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confdef --force-confold"
        )
        yield StringCommand(noninteractive_apt("install --fix-broken"))
    else:
        host.noop("no package is half-installed")


@operation()
def apt_hold(packages: list[str]) -> Commands:
    """Hold packages at their version, so that no unattended upgrade swaps the driver."""
    missing = sorted(set(packages) - set(host.get_fact(Driver)["held"]))
    if missing:
        yield StringCommand("apt-mark hold", *(QuoteString(name) for name in missing))
    else:
        host.noop("all packages are held")


@operation()
def kernel_headers(image_package: str, headers_package: str, headers: str) -> Commands:
    """Headers of the kernel that will boot, and the meta package that keeps them coming.

    Where the archive no longer has the headers of that kernel, the newest kernel is installed
    with its headers instead. `headers` holds `{kernel}`.
    """
    state = host.get_fact(Host)
    wanted = headers.format(kernel=state["boot_kernel"])
    if state["boot_kernel_headers"] and host.get_fact(DebPackage, package=headers_package):
        host.noop(f"the headers of {state['boot_kernel']} are installed")
        return
    install = noninteractive_apt("install --no-install-recommends")
    yield StringCommand("apt-get update")
    yield StringCommand(
        f"if apt-cache show {wanted} >/dev/null 2>&1; then {install} {wanted} {headers_package}; "
        f"else {install} {image_package} {headers_package}; fi"
    )


@operation()
def dkms_installed() -> Commands:
    """The module is built for the kernel that will boot: by `dkms status`, not by apt's exit code.

    One more build is tried; if that fails too, the host fails with the log's place.
    """
    kernel = host.get_fact(Host)["boot_kernel"]
    if dkms_built(host.get_fact(Driver), kernel):
        host.noop(f"the module is built for {kernel}")
        return
    yield StringCommand("dkms autoinstall -k", QuoteString(kernel))
    driver = host.get_fact(Driver)
    if not dkms_built(driver, kernel):
        found = "; ".join(f"{m['module']} {m['version']}: {m['status']}" for m in driver["dkms"])
        yield failure(
            Problem(
                f"the NVIDIA module must be built for the kernel that will boot, {kernel}",
                found=f"dkms status says: {found or 'nothing'}",
                works="a kernel that this driver branch supports, with its headers",
                how="read /var/lib/dkms/nvidia*/*/build/make.log on the rig",
            )
        )


@operation()
def default_target(target: str) -> Commands:
    """The target that systemd boots into."""
    found = host.get_fact(Display)["default_target"]
    if found == target:
        host.noop(f"{target} is the default target")
    else:
        yield StringCommand("systemctl set-default", QuoteString(target))


@operation()
def display_manager_stopped(stop_now: bool) -> Commands:
    """Whichever display manager is installed is disabled; stopped too unless we sit in front."""
    display = host.get_fact(Display)
    manager = display["display_manager"]
    if display["display_manager_active"] and stop_now:
        yield StringCommand("systemctl stop display-manager.service")
    if manager:
        yield StringCommand("systemctl disable", QuoteString(manager))
    if not manager and not display["display_manager_active"]:
        host.noop("no display manager is enabled")


@operation()
def x_configurations_aside() -> Commands:
    """X configurations that name NVIDIA cards are kept beside their place, out of X's sight."""
    found = host.get_fact(Display)["x_configurations"]
    if not found:
        host.noop("no X configuration names the cards")
    for path in found:
        yield StringCommand(
            "mv", QuoteString(path), QuoteString(f"{path.removesuffix('.conf')}.rig-backup")
        )


@operation()
def initramfs_current() -> Commands:
    """Rebuild the initramfs of all kernels if our module options are newer than it."""
    if host.get_fact(Display)["initramfs_stale"]:
        yield StringCommand("update-initramfs -u -k all")
    else:
        host.noop("the initramfs holds the module options")


@operation()
def rebooted(modeset: bool | None, connector_is_local: bool) -> Commands:
    """Reboot once if the host's state asks for it, and prove that it helped.

    `modeset` is the kernel mode setting that the module options ask for. A control machine is
    never rebooted.
    """
    reasons = reboot_reasons(host.get_fact(Driver), host.get_fact(Display), modeset)
    if not reasons:
        host.noop("nothing asks for a reboot")
        return
    if connector_is_local:
        yield failure(_reboot_yourself(reasons))
        return
    say("rebooting: " + "; ".join(reasons))
    reboot: Callable[..., Commands] = server.reboot._inner
    yield from reboot(delay=3, reboot_timeout=REBOOT_TIMEOUT_SECONDS)
    left = reboot_reasons(host.get_fact(Driver), host.get_fact(Display), modeset)
    if left:
        yield failure(
            Problem(
                "the reboot must start the NVIDIA driver",
                found="; ".join(left),
                how="look for NVRM in `journalctl -k -b` on the rig",
            )
        )


def _reboot_yourself(reasons: list[str]) -> Problem:
    return Problem(
        "this machine must be rebooted",
        found="; ".join(reasons),
        works="the same command again after the reboot",
        how="`sudo reboot`; the machine you sit at is never rebooted for you",
    )
