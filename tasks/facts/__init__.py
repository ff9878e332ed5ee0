"""What is true of a host: one fact a domain, one command (one round trip) each.

Every command prints `key=value` lines; a key may repeat. Values that the host does not report are
None, never zero or empty text. The commands need a POSIX shell, coreutils and systemd, nothing
that a minimal Debian or Ubuntu lacks.
"""

from tasks.facts.cards import CardMemory, DisplayDevice, DisplayDevices
from tasks.facts.display import Display, DisplayState
from tasks.facts.driver import DkmsModule, Driver, DriverState, dkms_module
from tasks.facts.environments import Environments, EnvironmentState
from tasks.facts.leftovers import LeftoverFiles, Leftovers
from tasks.facts.machine import Disk, Host, HostState

__all__ = [
    "CardMemory",
    "Disk",
    "Display",
    "DisplayDevice",
    "DisplayDevices",
    "DisplayState",
    "DkmsModule",
    "Driver",
    "DriverState",
    "EnvironmentState",
    "Environments",
    "Host",
    "HostState",
    "LeftoverFiles",
    "Leftovers",
    "dkms_module",
]
