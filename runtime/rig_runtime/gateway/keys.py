"""API keys: several, named, only their SHA-256 at rest, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path

from rig_runtime.errors import BadInput

_LINE = re.compile(r"(?P<name>\S+)\s+(?P<digest>[0-9a-fA-F]{64})")


class Keys:
    """Who may ask. Without any key everybody may."""

    def __init__(self, digests: Mapping[str, bytes]) -> None:
        """`digests`: name -> SHA-256."""
        self._digests = dict(digests)

    @property
    def required(self) -> bool:
        return bool(self._digests)

    def name_of(self, key: str) -> str | None:
        """The name of a key, or None for a wrong one. Every key is compared, whichever fits."""
        digest = hashlib.sha256(key.encode()).digest()
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def load(path: Path | None) -> Keys:
    """Read 'NAME SHA256-HEX' lines; '#' begins a comment. None: no keys. Raises BadInput."""
    if path is None:
        return Keys({})
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"The API keys must be readable: {path}.", found=str(error)) from error
    digests = {}
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        if match is None or match["name"] in digests:
            raise BadInput(
                f"{path}, line {number} must name one API key.",
                found="The name is there twice." if match else "The line has another form.",
                works="'NAME SHA256-HEX', each name once.",
                how="The digest of a key: `printf %s KEY | sha256sum`.",
            )
        digests[match["name"]] = bytes.fromhex(match["digest"])
    if not digests:
        raise BadInput(
            f"{path} must hold at least one API key.",
            works="'NAME SHA256-HEX', one a line.",
            how="The digest of a key: `printf %s KEY | sha256sum`.",
        )
    return Keys(digests)
