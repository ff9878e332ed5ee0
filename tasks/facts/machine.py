"""The machine and its system: distribution, kernels, Secure Boot, disks."""

from __future__ import annotations

from typing import TypedDict

from pyinfra.api import FactBase

from tasks.facts.lines import BOOT_KERNEL, first, pairs, yes

# 8be4df61... is the EFI global variable namespace; the fifth byte is the value.
_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class Disk(TypedDict):
    """The file system that a path is on, by its mount point."""

    mount: str
    available_bytes: int


class HostState(TypedDict):
    """The machine and its system. Bytes are integers; `secure_boot` is None without EFI."""

    distribution: str | None
    version: str | None
    codename: str | None
    architecture: str | None
    running_kernel: str
    boot_kernel: str
    boot_kernel_headers: bool
    virtualisation: str | None
    secure_boot: bool | None
    disks: dict[str, Disk]
    systemd: bool


class Host(FactBase[HostState]):
    """Distribution, kernels, Secure Boot, disk."""

    def command(self) -> str:
        return (
            ". /etc/os-release; "
            'echo "distribution=$ID"; echo "version=$VERSION_ID"; '
            'echo "codename=$VERSION_CODENAME"; '
            'echo "architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)"; '
            'echo "running=$(uname -r)"; ' + BOOT_KERNEL + 'echo "boot=$boot"; '
            '[ -e "/lib/modules/$boot/build/Makefile" ] && echo headers=yes; '
            'echo "virtualisation=$(systemd-detect-virt 2>/dev/null)"; '
            f'echo "secure_boot=$(od -An -tu1 -j4 -N1 {_SECURE_BOOT} 2>/dev/null | tr -d " ")"; '
            "[ -d /run/systemd/system ] && echo systemd=yes; "
            "for path in / /boot /opt /var; do "
            'echo "disk=$path $(df -B1 --output=avail,target "$path" 2>/dev/null | tail -n 1)"; '
            "done; true"
        )

    def process(self, output: list[str]) -> HostState:
        found = pairs(output)
        disks = (line.split(maxsplit=2) for line in found.get("disk", []))
        return {
            "distribution": first(found, "distribution"),
            "version": first(found, "version"),
            "codename": first(found, "codename"),
            "architecture": first(found, "architecture"),
            "running_kernel": found["running"][0],
            "boot_kernel": found["boot"][0],
            "boot_kernel_headers": "headers" in found,
            "virtualisation": first(found, "virtualisation"),
            "secure_boot": yes(first(found, "secure_boot")),
            "disks": {
                words[0]: {"mount": words[2], "available_bytes": int(words[1])}
                for words in disks
                if len(words) == 3 and words[1].isdigit()
            },
            "systemd": "systemd" in found,
        }
