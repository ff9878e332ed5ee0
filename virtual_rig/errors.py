"""The errors of the virtual rig: those of the runtime, with their four parts and exit codes.

VirtualRigError: this machine cannot do it now (exit 1). BadInput, one of them: what was asked for
is not as it must be (exit 2).
"""

from __future__ import annotations

from rig_runtime.errors import BadInput
from rig_runtime.errors import RigError as VirtualRigError

__all__ = ["BadInput", "VirtualRigError"]
