"""Where the virtual rigs keep what they keep.

VIRTUAL_RIG_STATE (default /var/lib/virtual-rig): one folder per box, gone with the box.
VIRTUAL_RIG_CACHE (default /var/cache/virtual-rig): what is expensive to make and the same for
all boxes: base images, downloaded packages, the mirror, the NVML library.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

MINING_RIG = Path(__file__).with_name("rigs") / "mining-rig.json"
"""The cards that a rig has when nobody names others."""


def state() -> Path:
    """The parent of the boxes' folders."""
    return Path(os.environ.get("VIRTUAL_RIG_STATE") or "/var/lib/virtual-rig")


def cache() -> Path:
    """The cache; of someone who is not root, a folder of their own."""
    named = os.environ.get("VIRTUAL_RIG_CACHE")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/cache/virtual-rig")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home if os.path.isabs(home) else tempfile.gettempdir()) / "virtual-rig"


def unique(folder: Path) -> str:
    """A name for what a box has outside its folder: two states may each have a box `rig`."""
    return f"{folder.name}.{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def locks() -> Path:
    """Where locks lie: for all boxes of this machine together, and gone when it reboots."""
    return Path("/run/lock/virtual-rig")
