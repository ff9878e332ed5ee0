"""The wheelhouse: filled by the machine's own pip, once for each requirements file."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from virtual_rig.errors import BadInput, VirtualRigError
from virtual_rig.mirror import add_wheels

NAME = "tiny-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel, where this machine's pip looks; and a cache of its own."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / NAME, "w") as wheel:
        wheel.writestr("tiny.py", "")
        head = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        wheel.writestr("tiny-1.0.dist-info/METADATA", head)
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("VIRTUAL_RIG_CACHE", str(tmp_path / "cache"))
    return folder


def test_wheels_are_downloaded_once(index: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("tiny==1.0\n")
    house = add_wheels(requirements)
    assert [path.name for path in house.iterdir()] == [NAME]
    (index / NAME).unlink()
    assert add_wheels(requirements) == house


def test_a_wheel_that_is_not_to_be_had_is_said(index: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("tiny==2.0\n")
    for _ in range(2):
        with pytest.raises(VirtualRigError, match=r"tiny==2\.0"):
            add_wheels(requirements)


def test_what_the_usual_index_lacks_comes_from_the_fallback(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere" / "tiny"
    elsewhere.mkdir(parents=True)
    (index / NAME).rename(elsewhere / NAME)
    (elsewhere / "index.html").write_text(f'<a href="{NAME}">{NAME}</a>')
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", index.as_uri())
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("tiny==1.0\n")
    house = add_wheels(requirements, fallback_index=elsewhere.parent.as_uri())
    assert [path.name for path in house.iterdir()] == [NAME]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none"):
        add_wheels(tmp_path / "none.txt")
