"""The NVIDIA driver: what is loaded, what will load, what is installed."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase

from tasks.facts.lines import BOOT_KERNEL, first, pairs

# The names under which distributions install the one kernel module (Debian renames it).
_MODULE_NAMES = "nvidia nvidia-current nvidia-current-open"


class DkmsModule(TypedDict):
    """One line of `dkms status`; `kernel` is None for a module that was only added."""

    module: str
    version: str
    kernel: str | None
    status: str


class DriverState(TypedDict):
    """The NVIDIA driver: what is loaded, what will load, what is installed."""

    loaded_version: str | None
    boot_module_version: str | None
    library_version: str | None
    nouveau_loaded: bool
    nova_loaded: bool
    dkms: list[DkmsModule]
    packages: dict[str, str]
    held: list[str]


class Driver(FactBase[DriverState]):
    """Loaded, on disk for the kernel that will boot, built by DKMS, installed, held."""

    def command(self) -> str:
        return (
            'echo "loaded=$(cat /sys/module/nvidia/version 2>/dev/null)"; ' + BOOT_KERNEL + ""
            f"for name in {_MODULE_NAMES}; do "
            'echo "module=$(/sbin/modinfo -k "$boot" -F version "$name" 2>/dev/null)"; done; '
            # The library's real name ends in its version; the link to it is made by ldconfig.
            'echo "library=$(ls /usr/lib/*/libnvidia-ml.so.[0-9]*.* '
            '/usr/lib/*/nvidia/current/libnvidia-ml.so.[0-9]*.* 2>/dev/null | head -n 1)"; '
            "[ -d /sys/module/nouveau ] && echo nouveau=yes; "
            "[ -d /sys/module/nova_core ] && echo nova=yes; "
            "dkms status 2>/dev/null | sed 's/^/dkms=/'; "
            "dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\\n' '*nvidia*' libcuda1 "
            "2>/dev/null | sed -n 's/^[ih]i *//p' | sed 's/^/package=/'; "
            "apt-mark showhold 2>/dev/null | sed 's/^/held=/'; true"
        )

    def process(self, output: list[str]) -> DriverState:
        found = pairs(output)
        library = first(found, "library")
        packages = (line.partition(" ") for line in found.get("package", []))
        return {
            "loaded_version": first(found, "loaded"),
            "boot_module_version": first(found, "module"),
            "library_version": library.rpartition(".so.")[2] if library else None,
            "nouveau_loaded": "nouveau" in found,
            "nova_loaded": "nova" in found,
            "dkms": [dkms_module(line) for line in found.get("dkms", [])],
            "packages": {name: version for name, _, version in packages},
            "held": sorted(found.get("held", [])),
        }


def dkms_module(line: str) -> DkmsModule:
    """`nvidia/580.95.05, 6.1.0-40-amd64, x86_64: installed` or `nvidia/580.95.05: added`.

    Older DKMS writes `nvidia, 580.95.05, …`; warnings may follow the status in brackets.
    """
    names, _, status = line.partition(":")
    words = [word.strip() for word in names.replace("/", ",", 1).split(",")]
    return {
        "module": words[0],
        "version": words[1] if len(words) > 1 else "",
        "kernel": words[2] if len(words) > 2 else None,
        "status": status.split("(")[0].strip(),
    }
