"""The scripts that build environments, run for real with stand-ins for the slow programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks import environments
from tasks.environments import TOOLS, Environment, environment_script, index_options, tools_script

MIRROR = "http://10.77.1.1:8077"


def _environment(name: str = "runtime", text: bytes = b"a==1\n") -> Environment:
    return Environment(name, (("lock.txt", text), ("x-1-py3-none-any.whl", b"wheel")))


def test_digest_is_of_the_contents() -> None:
    assert _environment().digest == _environment().digest
    assert _environment().digest != _environment(text=b"a==2\n").digest
    assert _environment().digest != _environment("vllm").digest
    assert (
        Environment("runtime", _environment().contents, index_options(MIRROR)).digest
        == _environment().digest
    )


@pytest.mark.parametrize(
    ("mirror", "extra", "options"),
    [
        (None, None, ()),
        (None, "https://x", ("--index", "https://x", "--index-strategy", "unsafe-best-match")),
        (f"{MIRROR}/", "https://x", ("--no-index", "--find-links", f"{MIRROR}/wheels/")),
    ],
)
def test_where_packages_come_from(
    mirror: str | None, extra: str | None, options: tuple[str, ...]
) -> None:
    assert index_options(mirror, extra) == options


def test_pip_trusts_the_mirror_by_its_host() -> None:
    tools = Environment(TOOLS, (("uv.txt", b"uv"),), index_options(MIRROR))
    assert "--trusted-host=10.77.1.1" in tools_script(tools)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A made /opt/rig whose uv makes folders and can be told to fail."""
    uv = tmp_path / TOOLS / "current" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(
        "#!/bin/sh\n"
        'echo "$@" >>"$0.log"\n'
        'case "$*" in *" venv "*) for last; do :; done; mkdir -p "$last/bin" ;;\n'
        '*" install "*) [ ! -e "$0.fails" ] ;; esac\n'
    )
    uv.chmod(0o755)
    return tmp_path


def _run(environment: Environment, root: Path) -> int:
    script = environment_script(environment).replace(str(environments.ROOT), str(root))
    return subprocess.run(["sh", "-c", script], check=False, capture_output=True).returncode


def test_a_finished_environment_is_switched_to(root: Path) -> None:
    first, second, third = (_environment(text=text) for text in (b"1", b"2", b"3"))
    for environment in (first, second, third):
        assert _run(environment, root) == 0
        assert (root / "runtime" / "current").readlink() == Path(environment.digest)
        assert (root / "runtime" / environment.digest / ".complete").exists()
    kept = {path.name for path in (root / "runtime").iterdir()}
    assert kept == {"current", second.digest, third.digest}


def test_a_failed_build_is_not_switched_to_and_is_made_anew(root: Path) -> None:
    assert _run(_environment(text=b"1"), root) == 0
    fails = root / TOOLS / "current" / "bin" / "uv.fails"
    fails.touch()
    broken = _environment(text=b"2")
    assert _run(broken, root) != 0
    assert (root / "runtime" / "current").readlink() == Path(_environment(text=b"1").digest)
    assert not (root / "runtime" / broken.digest / ".complete").exists()
    fails.unlink()
    assert _run(broken, root) == 0
    assert (root / "runtime" / "current").readlink() == Path(broken.digest)


def test_a_complete_environment_is_not_built_again(root: Path) -> None:
    assert _run(_environment(), root) == 0
    log = root / TOOLS / "current" / "bin" / "uv.log"
    before = log.read_text()
    assert _run(_environment(), root) == 0
    assert log.read_text() == before
