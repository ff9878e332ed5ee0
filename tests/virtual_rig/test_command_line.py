"""The command line: exit codes, one message, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from virtual_rig.base import check_room
from virtual_rig.command import require
from virtual_rig.errors import VirtualRigError

CHECKOUT = Path(__file__).parents[2]


def run(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, with a state of its own and nothing on standard input."""
    return subprocess.run(
        [sys.executable, "-m", "virtual_rig", *words],
        cwd=CHECKOUT,
        env={**os.environ, "VIRTUAL_RIG_STATE": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="boxes need root")


@needs_root
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["up", "Box"], 2, "'Box' was given"),
        (["up", "../x"], 2, "'../x' was given"),
        (["up", "tvr-x", "--suite", "sid"], 2, "bookworm, trixie"),
        (["up", "tvr-x", "--cards", "/none.json"], 2, "/none.json"),
        (["ssh", "tvr-x"], 2, "the boxes are: none"),
        (["cards", "tvr-x"], 2, "the boxes are: none"),
        (["mirror", "--wheels", "/none.txt"], 2, "/none.txt"),
        (["fly"], 2, "invalid choice"),
    ],
)
def test_bad_input_is_one_message(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    done = run(tmp_path, *words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@needs_root
def test_errors_are_json_where_asked(tmp_path: Path) -> None:
    done = run(tmp_path, "up", "tvr-x", "--suite", "sid", "--json")
    assert set(json.loads(done.stdout)["error"]) == {"needed", "found", "works", "how"}


@needs_root
def test_no_boxes_are_an_empty_list(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "list", "--json").stdout) == {"boxes": []}
    assert run(tmp_path, "list").stdout == ""


@needs_root
def test_what_is_not_there_is_down(tmp_path: Path) -> None:
    done = run(tmp_path, "down", "tvr-x")
    assert (done.returncode, done.stdout) == (0, "there is no box tvr-x\n")


@needs_root
@pytest.mark.parametrize("command", ["up", "down", "list"])
def test_who_is_not_root_is_told(command: str) -> None:
    become = (
        "import os, sys; from virtual_rig.__main__ import main; "
        "os.seteuid(65534); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", become, command],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "sudo" in done.stderr


def test_a_missing_program_is_said_with_its_package() -> None:
    with pytest.raises(VirtualRigError, match="no-such-tool") as caught:
        require("sh", "no-such-tool")
    assert "apt-get install" in caught.value.how


def test_a_full_disk_is_said_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(VirtualRigError, match="GiB are free"):
        check_room(tmp_path / "not" / "there", 1 << 60)
