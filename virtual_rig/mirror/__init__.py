"""The local package mirror: an apt repository and a folder of wheels, served to every box."""

from __future__ import annotations

from virtual_rig.mirror.wheels import add_wheels

__all__ = ["add_wheels"]
