"""The API key of a rig: made and kept on the control side, the rig only knows its digest."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

KEY_NAME = "rig"


def key_folder(name: str, virtual_known_hosts: str | None) -> Path:
    """Where the key of a host is kept: beside a virtual rig's state, else below ~/.config/rig."""
    if virtual_known_hosts:
        return Path(virtual_known_hosts).parent
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "rig" / name.replace("/", "_")


def api_key(folder: Path) -> str:
    """The key in `folder`, made at its first use, readable by its owner alone.

    Beside it `api-key.header` lets curl send it without showing it: `curl -H @FILE …`.
    """
    path = folder / "api-key"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write_private(path, secrets.token_urlsafe(32))
    key = path.read_text(encoding="ascii").strip()
    header = f"Authorization: Bearer {key}\n"
    header_path = folder / "api-key.header"
    if not header_path.exists() or header_path.read_text(encoding="ascii") != header:
        _write_private(header_path, header)
    return key


def key_line(key: str) -> str:
    """The rig's line for a key: name and SHA-256."""
    return f"{KEY_NAME} {hashlib.sha256(key.encode()).hexdigest()}\n"


def _write_private(path: Path, text: str) -> None:
    part = path.with_suffix(f"{path.suffix}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
