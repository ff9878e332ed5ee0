"""Keys: the one that opens every box, and each box's own, known before the first connection."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from virtual_rig import paths
from virtual_rig.base import locked
from virtual_rig.command import run


def client_key() -> Path:
    """The private key that root and `rig` of every box accept; made once for this cache."""
    folder = paths.cache() / "ssh"
    key = folder / "id_ed25519"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(folder / ".lock"):
        if not key.exists():
            _generate(key, "virtual-rig")
    return key


def authorize(root: Path) -> None:
    """Let the client key into this root's two accounts."""
    public = client_key().with_suffix(".pub").read_text(encoding="ascii")
    for home, owner in ((root / "root", 0), (root / "home/rig", 1000)):
        keys = home / ".ssh/authorized_keys"
        keys.write_text(public, encoding="ascii")
        keys.chmod(0o600)
        os.chown(keys, owner, owner)


def give_host_key(root: Path, address: str, known_hosts: Path) -> None:
    """Give the box a host key, and write down which, so that it can be checked strictly."""
    key = root / "etc/ssh/ssh_host_ed25519_key"
    if not key.exists():
        _generate(key, "host")
    kind, value = key.with_suffix(".pub").read_text(encoding="ascii").split()[:2]
    known_hosts.write_text(f"{address} {kind} {value}\n", encoding="ascii")


def command(address: str, key: Path, known_hosts: Path, words: list[str]) -> list[str]:
    """The ssh command line for this box; without words, a shell."""
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": "10",
        "LogLevel": "ERROR",
    }
    argv = ["ssh", "-F", "none", "-i", str(key)]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    return [*argv, f"root@{address}", *([shlex.join(words)] if len(words) > 1 else words)]


def _generate(key: Path, comment: str) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", key])
