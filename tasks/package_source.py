"""The driver's package source on the host: its key, its lists, its packages."""

from __future__ import annotations

import re
import shlex

from pyinfra import host
from pyinfra.api import FactBase, QuoteString, StringCommand, operation
from pyinfra.facts.apt import noninteractive_apt
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.files import File

from tasks.commands import Commands
from tasks.facts import Driver

# apt brings its own downloader, which knows apt's proxies: a minimal system has no other.
APT_HELPER = "/usr/lib/apt/apt-helper"


class Unreachable(FactBase[list[str]]):
    """Those of some addresses that the host cannot download from, as its apt would."""

    @staticmethod
    def default() -> list[str]:
        return []

    def command(self, addresses: list[str]) -> str:
        return (
            "folder=$(mktemp -d); "
            f"for address in {' '.join(map(shlex.quote, addresses))}; do "
            f"{APT_HELPER} -o Acquire::Retries=0 -o Acquire::http::Timeout=8 "
            '-o Acquire::https::Timeout=8 download-file "$address" "$folder/file" '
            '>/dev/null 2>&1 || echo "$address"; rm -f "$folder/file"; done; '
            'rmdir "$folder" 2>/dev/null; true'
        )

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output if line.strip()]


@operation()
def keyring(address: str, path: str) -> Commands:
    """The repository's key, downloaded by apt's own helper and put in place whole."""
    if host.get_fact(File, path=path):
        host.noop(f"{path} is there")
        return
    part = QuoteString(f"{path}.part")
    yield StringCommand("install -d -m 755", QuoteString(path.rpartition("/")[0]))
    yield StringCommand(APT_HELPER, "download-file", QuoteString(address), part)
    yield StringCommand("chmod 644", part, "&& mv", part, QuoteString(path))


# The version of a package that belongs to a driver branch: 580.95.05-1, 535.261.03-1~deb12u1.
_BRANCH = re.compile(r"(\d{3})\.\d+")


def packages_missing(packages: list[str], installed: dict[str, str], branch: int) -> list[str]:
    """Packages that are not installed, and those of another branch."""
    foreign = packages_of_other_branches(installed, branch)
    return [name for name in packages if name not in installed or name in foreign]


def packages_of_other_branches(installed: dict[str, str], branch: int) -> list[str]:
    """Installed driver packages of another branch than the wanted one.

    Another source may have other packages, which conflict with these. What is versioned by other
    rules, such as nvidia-modprobe's helpers, belongs to no branch.
    """
    found = {name: _BRANCH.match(version) for name, version in installed.items()}
    return sorted(name for name, match in found.items() if match and int(match[1]) != branch)


@operation()
def driver_packages(packages: list[str], branch: int) -> Commands:
    """Install the driver's packages from fresh lists, in one transaction that downloads first.

    Packages of another branch are let go for it; those that it leaves are removed after.
    """
    installed = host.get_fact(Driver)["packages"]
    if not packages_missing(packages, installed, branch):
        host.noop("the driver's packages are installed")
        return
    yield StringCommand("apt-get update")
    if foreign := packages_of_other_branches(installed, branch):
        yield StringCommand("apt-mark unhold", *_quoted(foreign))
    yield StringCommand(
        noninteractive_apt(
            "install --no-install-recommends --allow-change-held-packages --allow-downgrades"
        ),
        *_quoted(packages),
    )
    if left := packages_of_other_branches(host.get_fact(Driver)["packages"], branch):
        yield StringCommand(_purge_unneeded(left))


def _purge_unneeded(names: list[str]) -> str:
    """Purge those of some packages that no other package needs any more, and nothing else."""
    listed = " ".join(map(shlex.quote, names))
    return (
        f"apt-mark auto {listed} >/dev/null; "
        "unneeded=$(apt-get -s autoremove | sed -n 's/^Remv \\([^ ]*\\) .*/\\1/p'); gone=; "
        f"for name in {listed}; do "
        'echo "$unneeded" | grep -qx "$name" && gone="$gone $name"; done; '
        f'[ -z "$gone" ] || {noninteractive_apt("purge")} $gone'
    )


def _quoted(names: list[str]) -> list[QuoteString]:
    return [QuoteString(name) for name in names]


@operation()
def system_packages(packages: list[str]) -> Commands:
    """Packages of the distribution, installed from fresh lists where any is missing."""
    installed = host.get_fact(DebPackages)
    missing = [name for name in packages if name not in installed]
    if not missing:
        host.noop("the system's packages are installed")
        return
    yield StringCommand("apt-get update")
    yield StringCommand(noninteractive_apt("install --no-install-recommends"), *_quoted(missing))
