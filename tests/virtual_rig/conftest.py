"""Shared by the virtual rig's tests: snapshots, and programs that see their cards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture
def desktop(tmp_path: Path) -> Path:
    """Four unequal cards, the first one with a desktop on it; a copy to change."""
    return Path(shutil.copy(DATA / "desktop.json", tmp_path / "desktop.json"))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder of its own: no test meets a box that someone else uses."""
    if os.geteuid() != 0:
        pytest.skip("boxes need root")
    absent = [tool for tool in ("systemd-nspawn", "mmdebstrap", "nft") if not shutil.which(tool)]
    if absent:
        pytest.skip(f"boxes need {', '.join(absent)}")
    state = tmp_path_factory.mktemp("boxes")
    before = os.environ.get("VIRTUAL_RIG_STATE")
    os.environ["VIRTUAL_RIG_STATE"] = str(state)
    yield state
    from virtual_rig import down

    for folder in state.iterdir():
        down(folder.name)
    if before is None:
        del os.environ["VIRTUAL_RIG_STATE"]
    else:
        os.environ["VIRTUAL_RIG_STATE"] = before
