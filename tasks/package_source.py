"""The driver's package source on the host: its key, its lists, its packages."""

from __future__ import annotations

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
            f"for address in {' '.join(repr(address) for address in addresses)}; do "
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


def packages_missing(packages: list[str], installed: dict[str, str], branch: int) -> list[str]:
    """Packages that are not installed, and a module package of another branch."""
    return [
        name
        for name in packages
        if name not in installed
        or ("dkms" in name and not installed[name].startswith(f"{branch}."))
    ]


@operation()
def driver_packages(packages: list[str], branch: int) -> Commands:
    """Install the driver's packages from fresh lists, whatever was held before."""
    missing = packages_missing(packages, host.get_fact(Driver)["packages"], branch)
    if not missing:
        host.noop("the driver's packages are installed")
        return
    yield StringCommand("apt-get update")
    yield StringCommand(
        noninteractive_apt(
            "install --no-install-recommends --allow-change-held-packages --allow-downgrades"
        ),
        *(QuoteString(name) for name in packages),
    )


@operation()
def system_packages(packages: list[str]) -> Commands:
    """Packages of the distribution, installed from fresh lists where any is missing."""
    installed = host.get_fact(DebPackages)
    missing = [name for name in packages if name not in installed]
    if not missing:
        host.noop("the system's packages are installed")
        return
    yield StringCommand("apt-get update")
    yield StringCommand(
        noninteractive_apt("install --no-install-recommends"),
        *(QuoteString(name) for name in missing),
    )
