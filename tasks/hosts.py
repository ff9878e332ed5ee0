"""What `inventory.py` names, checked before anything connects."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.problems import Problem, listing

HostEntry = str | tuple[str, dict[str, Any]]

NO_HOSTS = Problem(
    "a rig must be named, or a virtual one must run on this machine",
    found="inventory.py names none, RIG_HOSTS is empty, and no virtual rig is up",
    how="name one in inventory.py, or run `./rig up`, which brings a virtual one up",
)


def checked(hosts: Sequence[HostEntry]) -> list[HostEntry]:
    """The hosts as they are. Ends the program with one message where they cannot be used.

    pyinfra's SSH library writes its own traceback beside pyinfra's one line where a host does not
    answer as SSH: only the line is kept.
    """
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    problems = host_list_problems(hosts)
    if problems:
        sys.exit(f"inventory.py: {listing(problems) if len(problems) > 1 else problems[0]}")
    return list(hosts)


def host_list_problems(hosts: Sequence[HostEntry]) -> list[Problem]:
    """No host at all, or SSH keys that are not there."""
    if not hosts:
        return [NO_HOSTS]
    keys = [(entry[0], entry[1].get("ssh_key")) for entry in hosts if isinstance(entry, tuple)]
    return [
        Problem(
            f"the SSH key of {name} must exist",
            found=f"{key} is not a file",
            how="set ssh_key in inventory.py to a private key, or leave it out to use the agent's",
        )
        for name, key in keys
        if key and not Path(key).expanduser().is_file()
    ]
