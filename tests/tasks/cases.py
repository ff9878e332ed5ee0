"""Hosts and cards as the facts report them: the base of the cases in this folder."""

from __future__ import annotations

from tasks.facts import Disk, DisplayDevice, DisplayState, DriverState, HostState, Leftovers

GIB = 1 << 30

# PCI device ids of one card for each generation, from the PCI ID database.
CARDS = {
    "GTX 480": ("06c0", "Fermi"),
    "GTX 680": ("1180", "Kepler"),
    "GTX TITAN": ("1005", "Kepler"),
    "GTX 750 Ti": ("1380", "Maxwell"),
    "GTX 970": ("13c2", "Maxwell"),
    "GTX 980 Ti": ("17c8", "Maxwell"),
    "P100": ("15f8", "Pascal"),
    "GTX 1060": ("1c03", "Pascal"),
    "GTX 1080 Ti": ("1b06", "Pascal"),
    "P40": ("1b38", "Pascal"),
    "P104-100": ("1b87", "Pascal"),
    "P106-100": ("1bc7", "Pascal"),
    "V100": ("1db4", "Volta"),
    "RTX 2070": ("1f02", "Turing"),
    "RTX 2080 Ti": ("1e07", "Turing"),
    "GTX 1660 SUPER": ("21c4", "Turing"),
    "CMP 40HX": ("1f0b", "Turing"),
    "A100": ("20b0", "Ampere"),
    "CMP 170HX": ("20c2", "Ampere"),
    "RTX 3060": ("2503", "Ampere"),
    "RTX 3070": ("2484", "Ampere"),
    "RTX 3080": ("2206", "Ampere"),
    "RTX 3090": ("2204", "Ampere"),
    "CMP 90HX": ("220d", "Ampere"),
    "H100": ("2330", "Hopper"),
    "RTX 4060 Ti": ("2803", "Ada"),
    "RTX 4090": ("2684", "Ada"),
    "L4": ("27b8", "Ada"),
    "RTX 5060 Ti": ("2d04", "Blackwell"),
    "RTX 5090": ("2b85", "Blackwell"),
    "B200": ("2901", "Blackwell"),
}


def device(card: str, bus: int = 1, **changes: object) -> DisplayDevice:
    """A card by its name in `CARDS`, on bus number `bus`."""
    return by_id(CARDS[card][0], bus, **changes)


def by_id(device_id: str, bus: int = 1, **changes: object) -> DisplayDevice:
    """Any display device of NVIDIA's."""
    base: DisplayDevice = {
        "bus_id": f"0000:{bus:02x}:00.0",
        "vendor": "10de",
        "device": device_id,
        "pci_class": "0300",
        "driver": "nouveau",
        "boot_vga": bus == 1,
        "link_width": 16,
        "link_width_max": 16,
        "link_speed": "16.0 GT/s PCIe",
        "link_speed_max": "16.0 GT/s PCIe",
    }
    return {**base, **changes}  # type: ignore[typeddict-item]


def disks(free: dict[str, int], mount: str = "/") -> dict[str, Disk]:
    """Paths with their free bytes, all on one file system."""
    return {path: {"mount": mount, "available_bytes": size} for path, size in free.items()}


def machine(**changes: object) -> HostState:
    """A Debian 12 with room."""
    base: HostState = {
        "distribution": "debian",
        "version": "12",
        "codename": "bookworm",
        "architecture": "amd64",
        "running_kernel": "6.1.0-56-amd64",
        "boot_kernel": "6.1.0-56-amd64",
        "boot_kernel_headers": True,
        "virtualisation": None,
        "secure_boot": False,
        "disks": disks({"/": 50 * GIB, "/var": 50 * GIB, "/opt": 50 * GIB}),
        "systemd": True,
    }
    return {**base, **changes}  # type: ignore[typeddict-item]


def driver(**changes: object) -> DriverState:
    """The driver built, loaded and held."""
    base: DriverState = {
        "loaded_version": "580.95.05",
        "boot_module_version": "580.95.05",
        "library_version": "580.95.05",
        "nouveau_loaded": False,
        "nova_loaded": False,
        "dkms": [
            {
                "module": "nvidia",
                "version": "580.95.05",
                "kernel": "6.1.0-56-amd64",
                "status": "installed",
            }
        ],
        "packages": {"nvidia-kernel-open-dkms": "580.95.05-1"},
        "held": [],
    }
    return {**base, **changes}  # type: ignore[typeddict-item]


def display(**changes: object) -> DisplayState:
    """A headless system."""
    base: DisplayState = {
        "default_target": "multi-user.target",
        "display_manager": None,
        "display_manager_active": False,
        "modeset": False,
        "fbdev": None,
        "initramfs_stale": False,
        "x_configurations": [],
    }
    return {**base, **changes}  # type: ignore[typeddict-item]


def leftovers(**changes: object) -> Leftovers:
    """Nothing left over."""
    base: Leftovers = {
        "runfile": [],
        "hive_configurations": [],
        "dpkg_audit": [],
        "interrupted_dpkg": False,
    }
    return {**base, **changes}  # type: ignore[typeddict-item]
