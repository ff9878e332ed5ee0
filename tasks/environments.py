"""Python environments below /opt/rig: built beside the one in use, then switched by a link.

/opt/rig/NAME/DIGEST/ is complete when it holds `.complete`; /opt/rig/NAME/current names the one in
use. The digest is of everything that goes in, so that a changed lock file is another environment.
Builds of two runs exclude each other by a lock on the rig: a run that was killed may still build.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra.operations import files

from tasks.commands import Commands
from tasks.facts import Environments

ROOT = PurePosixPath("/opt/rig")
UPLOADS = ROOT / "uploads"
TOOLS = "tools"


@dataclass(frozen=True)
class Environment:
    """What one environment is made of: requirement files (hash-locked) and wheels of ours.

    Paths are on the rig, below `UPLOADS`; `contents` are those files' bytes, by name.
    """

    name: str
    contents: tuple[tuple[str, bytes], ...]
    index_options: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Sixteen hex digits over names and contents; where they come from does not matter."""
        total = hashlib.sha256(self.name.encode())
        for name, content in self.contents:
            total.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
        return total.hexdigest()[:16]

    @property
    def uploads(self) -> PurePosixPath:
        """Where its files lie on the rig."""
        return UPLOADS / f"{self.name}-{self.digest}"

    @property
    def requirements(self) -> list[str]:
        """Its requirement files on the rig."""
        return [str(self.uploads / name) for name, _ in self.contents if name.endswith(".txt")]

    @property
    def wheels(self) -> list[str]:
        """Its own wheels on the rig."""
        return [str(self.uploads / name) for name, _ in self.contents if name.endswith(".whl")]


def index_options(mirror_url: str | None, extra_index: str | None = None) -> tuple[str, ...]:
    """Where packages come from: only the mirror, where there is one, else PyPI and one more."""
    if mirror_url:
        return ("--no-index", "--find-links", f"{mirror_url.rstrip('/')}/wheels/")
    if extra_index:
        return ("--index", extra_index, "--index-strategy", "unsafe-best-match")
    return ()


def _guarded(environment: Environment, build: Sequence[str]) -> str:
    """A script that builds the environment unless it is complete, and switches to it.

    The lock is inherited by what the script starts and freed by its end, however it ends.
    """
    folder = ROOT / environment.name
    target = shlex.quote(str(folder / environment.digest))
    return "\n".join(
        [
            "set -eu",
            f"mkdir -p {folder} {ROOT}/cache",
            f"exec 9>{ROOT}/.lock; flock 9",
            f"if [ ! -e {target}/.complete ]; then",
            f"rm -rf {target}",
            *build,
            f"touch {target}/.complete",
            "fi",
            f"previous=$(readlink {folder}/current || true)",
            f"ln -sfn {environment.digest} {folder}/.next",
            f"mv -T {folder}/.next {folder}/current",
            f"rm -rf {ROOT}/cache",
            # The one before stays: a service may still run from it. Older ones go.
            f'for old in {folder}/*/; do case "$(basename "$old")" in '
            f'current|{environment.digest}|"$previous") ;; *) rm -rf "$old" ;; esac; done',
        ]
    )


def tools_script(tools: Environment) -> str:
    """uv in a small environment made by the distribution's own Python.

    pip asks for a word of trust where the mirror has no TLS; the hashes hold either way.
    """
    target = shlex.quote(str(ROOT / tools.name / tools.digest))
    hosts = [urlsplit(word).hostname for word in tools.index_options if "://" in word]
    words = [*tools.index_options, *(f"--trusted-host={name}" for name in hosts)]
    options = " ".join(shlex.quote(word) for word in words)
    files = " ".join(f"-r {shlex.quote(path)}" for path in tools.requirements)
    return _guarded(
        tools,
        [
            f"python3 -m venv {target}",
            f"{target}/bin/python -m pip install --quiet --disable-pip-version-check "
            f"--no-deps --require-hashes {options} {files}",
        ],
    )


def environment_script(environment: Environment) -> str:
    """An environment by uv: locked requirements with their hashes, then our own wheels."""
    target = shlex.quote(str(ROOT / environment.name / environment.digest))
    uv = f"{ROOT}/{TOOLS}/current/bin/uv --no-config --quiet --cache-dir {ROOT}/cache"
    options = " ".join(shlex.quote(word) for word in environment.index_options)
    files = " ".join(f"-r {shlex.quote(path)}" for path in environment.requirements)
    install = f"{uv} pip install --python {target}/bin/python --no-deps"
    lines = [
        f"{uv} venv --python /usr/bin/python3 {target}",
        f"{install} --compile-bytecode --require-hashes {options} {files}",
    ]
    if environment.wheels:
        wheels = " ".join(shlex.quote(path) for path in environment.wheels)
        lines.append(f"{install} --compile-bytecode --no-index {wheels}")
    return _guarded(environment, lines)


@operation()
def environment_current(environment: Environment) -> Commands:
    """The environment is complete and in use; what it is made of is sent only if it is not."""
    state = host.get_fact(Environments, names=[environment.name])[environment.name]
    digest = environment.digest
    if state["current"] == digest and digest in state["complete"]:
        host.noop(f"{environment.name} {digest} is in use")
        return
    put: Callable[..., Commands] = files.put._inner
    for filename, content in environment.contents:
        yield from put(src=BytesIO(content), dest=str(environment.uploads / filename), mode="644")
    script = tools_script if environment.name == TOOLS else environment_script
    yield StringCommand(script(environment))
