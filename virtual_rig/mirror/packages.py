"""The mirror's packages: NVIDIA's names, versions and dependencies, with next to nothing inside.

Names and dependencies are those of NVIDIA's repository for Debian, as far as the headless compute
set goes. The kernel modules are real ones that DKMS really builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

VERSION = "580.95.05"
PACKAGE_VERSION = f"{VERSION}-1"
_BRANCH = VERSION.split(".")[0]
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_SOURCE = f"usr/src/nvidia-{VERSION}"

# What dkms itself gives packages to call (dh_dkms writes the same).
_DKMS_AFTER = f"""#!/bin/sh
set -e
if [ "$1" = configure ] && [ -x /usr/lib/dkms/common.postinst ]; then
    /usr/lib/dkms/common.postinst nvidia {VERSION} "" "" "$2"
fi
"""
_DKMS_BEFORE_REMOVAL = f"""#!/bin/sh
set -e
if [ "$1" = remove ] || [ "$1" = upgrade ]; then
    dkms remove -m nvidia -v {VERSION} --all || true
fi
"""
_LOADER_AFTER = "#!/bin/sh\nset -e\nldconfig\n"
_PERSISTENCED_AFTER = """#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    deb-systemd-helper enable nvidia-persistenced.service
fi
"""
_PINNING = f"""Package: *nvidia* libcuda1
Pin: version {_BRANCH}.*
Pin-Priority: 1000
"""


@dataclass(frozen=True)
class Package:
    """One package. A file's content is text, or `@NAME` for what the builder makes or has.

    `links` are symbolic links by their path; `scripts` maintainer scripts by their name.
    """

    name: str
    summary: str
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "amd64"


def _kernel_modules(name: str, other: str, licence: str) -> Package:
    return Package(
        name=name,
        summary="NVIDIA kernel modules (DKMS version)",
        fields={
            "Depends": f"dkms, nvidia-modprobe (= {PACKAGE_VERSION})",
            "Provides": f"nvidia-kernel-{VERSION}",
            "Conflicts": other,
            "Replaces": other,
        },
        files={
            f"{_SOURCE}/dkms.conf": "@dkms/dkms.conf",
            f"{_SOURCE}/Makefile": "@dkms/Makefile",
            f"{_SOURCE}/driver.mk": f"DRIVER_VERSION := {VERSION}\nDRIVER_LICENSE := {licence}\n",
            **{
                f"{_SOURCE}/nvidia{part}.c": "@dkms/module.c"
                for part in ("", "-modeset", "-drm", "-uvm")
            },
        },
        scripts={"postinst": _DKMS_AFTER, "prerm": _DKMS_BEFORE_REMOVAL},
    )


def _library(name: str, soname: str, content: str, summary: str) -> Package:
    real = soname.removesuffix(".1") + f".{VERSION}"
    return Package(
        name=name,
        summary=summary,
        fields={"Depends": "libc6", "Multi-Arch": "same"},
        files={f"{_LIBRARIES}/{real}": content},
        links={f"{_LIBRARIES}/{soname}": real},
        scripts={"postinst": _LOADER_AFTER},
    )


_SAME = f"(= {PACKAGE_VERSION})"

PACKAGES = (
    Package(
        name="nvidia-driver-cuda",
        summary="NVIDIA driver CUDA integration components",
        fields={
            "Depends": (
                f"libcuda1 {_SAME}, libnvidia-ml1 {_SAME}, nvidia-persistenced {_SAME}, "
                f"nvidia-kernel-{VERSION}"
            ),
            "Conflicts": "nvidia-smi",
            "Replaces": "nvidia-smi",
        },
        files={"usr/bin/nvidia-smi": "@nvidia-smi"},
    ),
    _kernel_modules("nvidia-kernel-open-dkms", "nvidia-kernel-dkms", "Dual MIT/GPL"),
    _kernel_modules("nvidia-kernel-dkms", "nvidia-kernel-open-dkms", "NVIDIA"),
    _library("libnvidia-ml1", "libnvidia-ml.so.1", "@libnvidia-ml", "NVIDIA Management Library"),
    _library("libcuda1", "libcuda.so.1", "@libcuda", "NVIDIA CUDA Driver Library"),
    Package(
        name="nvidia-persistenced",
        summary="daemon to maintain persistent software state in the NVIDIA driver",
        fields={"Depends": f"libnvidia-ml1 {_SAME}"},
        files={
            "usr/bin/nvidia-persistenced": "@nvidia-persistenced",
            "usr/lib/systemd/system/nvidia-persistenced.service": "@nvidia-persistenced.service",
        },
        scripts={"postinst": _PERSISTENCED_AFTER},
    ),
    Package(
        name="nvidia-modprobe",
        summary="utility to load NVIDIA kernel modules and create device nodes",
        files={"usr/bin/nvidia-modprobe": "#!/bin/sh\nexit 0\n"},
    ),
    Package(
        name=f"nvidia-driver-pinning-{_BRANCH}",
        summary=f"pins the NVIDIA driver to branch {_BRANCH}",
        files={f"etc/apt/preferences.d/nvidia-driver-pinning-{_BRANCH}": _PINNING},
        architecture="all",
    ),
)
