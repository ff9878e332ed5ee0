"""What the docs show is what the commands print and what the code says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from docs import configuration, pictures
from rig_runtime import cli

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(
    page for page in ROOT.rglob("*.md") if not any(p.startswith(".") for p in page.parts)
)


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_shows_what_the_command_prints(name: str) -> None:
    shown = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert shown == pictures.picture(pictures.PICTURES[name]), "run: python docs/pictures.py"


def test_the_configuration_page_is_that_of_the_code() -> None:
    assert configuration.PAGE.read_text(encoding="utf-8") == configuration.page(), (
        "run: python docs/configuration.py"
    )


def test_the_first_commands_of_the_readme_are_up_and_test() -> None:
    blocks = re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    first = [shlex.split(line, comments=True) for line in blocks[0].splitlines()]
    assert first == [["./rig", "up"], ["./rig", "test"]]


def test_the_readme_lists_every_command_and_no_other() -> None:
    listed = set(re.findall(r"^\| `rig-runtime (\w+)", README, re.MULTILINE))
    assert listed == set(cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    program = Path(sys.executable).with_name("rig-runtime")
    done = subprocess.run(
        [str(program), command, "--help"], capture_output=True, text=True, check=True
    )
    assert "--json" in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []
