"""A rig made of software: a fresh Debian in a container, made-up PCI cards, a simulated NVML.

`up` brings a box up, `find` looks for one, `down` removes it without a trace.
"""

from __future__ import annotations

from virtual_rig.api import Box, down, find, up
from virtual_rig.errors import BadInput, VirtualRigError
from virtual_rig.paths import MINING_RIG

__all__ = ["MINING_RIG", "BadInput", "Box", "VirtualRigError", "down", "find", "up"]
