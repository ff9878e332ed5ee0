"""One reboot, if the host's own state asks for it at this moment."""

from __future__ import annotations

from pyinfra.api import deploy

from tasks.driver_choice import DriverChoice
from tasks.headless import is_local
from tasks.operations import rebooted


@deploy("Reboot")
def reboot_if_needed(headless: bool, choice: DriverChoice | None) -> None:
    """Nothing to do on a host without NVIDIA cards."""
    if choice is None:
        return
    rebooted(
        name="Reboot if the driver asks for it",
        modeset=False if headless else None,
        connector_is_local=is_local(),
    )
