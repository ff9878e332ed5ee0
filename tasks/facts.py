"""What is true of a host: one fact a domain, one command (one round trip) each.

Every command prints `key=value` lines; a key may repeat. Values that the host does not report are
None, never zero or empty text. The commands need a POSIX shell, coreutils and systemd, nothing
that a minimal Debian or Ubuntu lacks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypedDict

from pyinfra.api import FactBase

# The kernel that will boot: GRUB and systemd-boot both start the newest installed one.
_BOOT_KERNEL = (
    "boot=$(ls /boot/vmlinuz-* 2>/dev/null | sed 's,^/boot/vmlinuz-,,' | sort -V | tail -n 1); "
    "boot=${boot:-$(uname -r)}; "
)
# 8be4df61... is the EFI global variable namespace; the fifth byte is the value.
_SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# The names under which distributions install the one kernel module (Debian renames it).
_MODULE_NAMES = "nvidia nvidia-current nvidia-current-open"


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


class DisplayDevice(TypedDict):
    """One PCI display device as sysfs shows it, with or without a driver."""

    bus_id: str
    vendor: str
    device: str
    pci_class: str
    driver: str | None
    boot_vga: bool | None
    link_width: int | None
    link_width_max: int | None
    link_speed: str | None
    link_speed_max: str | None


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


class DisplayState(TypedDict):
    """What may draw on a card: target, display manager, kernel mode setting, X configurations."""

    default_target: str | None
    display_manager: str | None
    display_manager_active: bool
    modeset: bool | None
    fbdev: bool | None
    initramfs_stale: bool
    x_configurations: list[str]


class Leftovers(TypedDict):
    """What earlier installations left behind and what would break ours."""

    runfile: list[str]
    hive_configurations: list[str]
    dpkg_audit: list[str]
    interrupted_dpkg: bool


class EnvironmentState(TypedDict):
    """One of our environments: the digest that `current` names, and those that are complete."""

    current: str | None
    complete: list[str]


def pairs(output: Iterable[str]) -> dict[str, list[str]]:
    """`key=value` lines as lists of values by key, empty values left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in output:
        key, separator, value = line.strip().partition("=")
        if separator and value:
            found[key].append(value)
    return found


def _first(found: dict[str, list[str]], key: str) -> str | None:
    return found[key][0] if found.get(key) else None


def _yes(value: str | None) -> bool | None:
    """A kernel parameter or a sysfs flag: Y, 1 or yes; None stays unknown."""
    return None if value is None else value in ("Y", "1", "yes")


def _integer(value: str | None) -> int | None:
    return int(value) if value and value.isdigit() else None


class Host(FactBase[HostState]):
    """Distribution, kernels, Secure Boot, disk."""

    def command(self) -> str:
        return (
            ". /etc/os-release; "
            'echo "distribution=$ID"; echo "version=$VERSION_ID"; '
            'echo "codename=$VERSION_CODENAME"; '
            'echo "architecture=$(dpkg --print-architecture 2>/dev/null || uname -m)"; '
            'echo "running=$(uname -r)"; ' + _BOOT_KERNEL + 'echo "boot=$boot"; '
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
            "distribution": _first(found, "distribution"),
            "version": _first(found, "version"),
            "codename": _first(found, "codename"),
            "architecture": _first(found, "architecture"),
            "running_kernel": found["running"][0],
            "boot_kernel": found["boot"][0],
            "boot_kernel_headers": "headers" in found,
            "virtualisation": _first(found, "virtualisation"),
            "secure_boot": _yes(_first(found, "secure_boot")),
            "disks": {
                words[0]: {"mount": words[2], "available_bytes": int(words[1])}
                for words in disks
                if len(words) == 3 and words[1].isdigit()
            },
            "systemd": "systemd" in found,
        }


class DisplayDevices(FactBase[list[DisplayDevice]]):
    """Every PCI device of class 03 (display), NVIDIA's and others', in order of bus id."""

    _FIELDS = (
        "vendor",
        "device",
        "class",
        "boot_vga",
        "current_link_width",
        "max_link_width",
        "current_link_speed",
        "max_link_speed",
    )

    @staticmethod
    def default() -> list[DisplayDevice]:
        return []

    def command(self) -> str:
        return (
            "for card in /sys/bus/pci/devices/*; do "
            'case "$(cat "$card/class" 2>/dev/null)" in 0x03*) ;; *) continue ;; esac; '
            'echo "card=${card##*/}"; '
            f"for field in {' '.join(self._FIELDS)}; do "
            'echo "$field=$(cat "$card/$field" 2>/dev/null)"; done; '
            '[ -L "$card/driver" ] && '
            'echo "driver=$(basename "$(readlink "$card/driver")")"; '
            "done; true"
        )

    def process(self, output: list[str]) -> list[DisplayDevice]:
        blocks: list[list[str]] = []
        for line in output:
            if line.startswith("card="):
                blocks.append([])
            if blocks:
                blocks[-1].append(line)
        return sorted((self._device(pairs(block)) for block in blocks), key=lambda d: d["bus_id"])

    @staticmethod
    def _device(found: dict[str, list[str]]) -> DisplayDevice:
        return {
            "bus_id": found["card"][0].lower(),
            "vendor": found["vendor"][0].removeprefix("0x").lower(),
            "device": found["device"][0].removeprefix("0x").lower(),
            "pci_class": found["class"][0].removeprefix("0x").lower()[:4],
            "driver": _first(found, "driver"),
            "boot_vga": _yes(_first(found, "boot_vga")),
            "link_width": _integer(_first(found, "current_link_width")),
            "link_width_max": _integer(_first(found, "max_link_width")),
            "link_speed": _first(found, "current_link_speed"),
            "link_speed_max": _first(found, "max_link_speed"),
        }


class Driver(FactBase[DriverState]):
    """Loaded, on disk for the kernel that will boot, built by DKMS, installed, held."""

    def command(self) -> str:
        return (
            'echo "loaded=$(cat /sys/module/nvidia/version 2>/dev/null)"; ' + _BOOT_KERNEL + ""
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
        library = _first(found, "library")
        packages = (line.partition(" ") for line in found.get("package", []))
        return {
            "loaded_version": _first(found, "loaded"),
            "boot_module_version": _first(found, "module"),
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


class Display(FactBase[DisplayState]):
    """Default target, display manager, kernel mode setting, and whether the initramfs is stale."""

    def command(self) -> str:
        return (
            'echo "target=$(systemctl get-default 2>/dev/null)"; '
            "manager=$(readlink -f /etc/systemd/system/display-manager.service 2>/dev/null); "
            '[ -e "$manager" ] && echo "manager=${manager##*/}"; '
            'echo "active=$(systemctl is-active display-manager.service 2>/dev/null)"; '
            "for name in modeset fbdev; do "
            'echo "$name=$(cat /sys/module/nvidia_drm/parameters/$name 2>/dev/null)"; done; '
            + _BOOT_KERNEL
            + "for conf in /etc/modprobe.d/rig-*.conf; do "
            '[ -e "$conf" ] && [ -e "/boot/initrd.img-$boot" ] && '
            '[ "$conf" -nt "/boot/initrd.img-$boot" ] && echo stale=yes; done; '
            "for conf in /etc/X11/xorg.conf /etc/X11/xorg.conf.d/*; do "
            'grep -qi nvidia "$conf" 2>/dev/null && echo "x=$conf"; done; true'
        )

    def process(self, output: list[str]) -> DisplayState:
        found = pairs(output)
        return {
            "default_target": _first(found, "target"),
            "display_manager": _first(found, "manager"),
            "display_manager_active": _first(found, "active") == "active",
            "modeset": _yes(_first(found, "modeset")),
            "fbdev": _yes(_first(found, "fbdev")),
            "initramfs_stale": "stale" in found,
            "x_configurations": found.get("x", []),
        }


class CardMemory(FactBase[dict[str, int]]):
    """Bytes in use on each card by its bus id, as a driver that is already there says."""

    @staticmethod
    def default() -> dict[str, int]:
        return {}

    def command(self) -> str:
        return (
            "nvidia-smi --query-gpu=pci.bus_id,memory.used --format=csv,noheader,nounits "
            "2>/dev/null || true"
        )

    def process(self, output: list[str]) -> dict[str, int]:
        """nvidia-smi writes an eight-digit domain and MiB: `00000000:01:00.0, 612`."""
        rows = (line.split(",") for line in output)
        return {
            row[0].strip().lower()[-12:]: int(row[1]) << 20
            for row in rows
            if len(row) == 2 and row[1].strip().isdigit()
        }


class LeftoverFiles(FactBase[Leftovers]):
    """.run installations, HiveOS's X configuration, packages that dpkg did not finish."""

    @staticmethod
    def default() -> Leftovers:
        return LeftoverFiles().process([])

    def command(self) -> str:
        return (
            "for path in /usr/bin/nvidia-uninstall /usr/bin/nvidia-installer; do "
            'if [ -e "$path" ] && ! dpkg -S "$path" >/dev/null 2>&1; then echo "runfile=$path"; '
            "fi; done; "
            "for conf in /etc/X11/xorg.conf /etc/X11/xorg.conf.d/*; do "
            'grep -q "AUTOGENERATED BY HIVE" "$conf" 2>/dev/null && echo "hive=$conf"; done; '
            "dpkg --audit 2>/dev/null | sed -n 's/^ \\([a-z0-9][^ ]*\\) .*/audit=\\1/p'; "
            '[ -n "$(ls /var/lib/dpkg/updates 2>/dev/null)" ] && echo interrupted=yes; true'
        )

    def process(self, output: list[str]) -> Leftovers:
        found = pairs(output)
        return {
            "runfile": found.get("runfile", []),
            "hive_configurations": found.get("hive", []),
            "dpkg_audit": found.get("audit", []),
            "interrupted_dpkg": "interrupted" in found,
        }


class Environments(FactBase[dict[str, EnvironmentState]]):
    """The environments below /opt/rig: which digest is current, which are complete."""

    def command(self, names: list[str]) -> str:
        return (
            f"for name in {' '.join(names)}; do "
            'echo "name=$name"; '
            'link=$(readlink "/opt/rig/$name/current" 2>/dev/null); '
            'echo "current=$name ${link##*/}"; '
            'for marker in "/opt/rig/$name"/*/.complete; do [ -e "$marker" ] && '
            '{ folder=${marker%/.complete}; echo "complete=$name ${folder##*/}"; }; done; '
            "done; true"
        )

    def process(self, output: list[str]) -> dict[str, EnvironmentState]:
        found = pairs(output)
        current = [line.split() for line in found.get("current", [])]
        complete = [line.split() for line in found.get("complete", [])]
        return {
            name: {
                "current": next((w[1] for w in current if w[0] == name and len(w) > 1), None),
                "complete": sorted({w[1] for w in complete if w[0] == name and w[1] != "current"}),
            }
            for name in found.get("name", [])
        }
