"""A rig brought up as a newcomer would: a fresh copy of the checkout, one command."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.e2e.clone import Newcomer, make_clone


@pytest.fixture(scope="session")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Newcomer]:
    """`./rig up` on a fresh clone; `./rig down` afterwards leaves nothing."""
    if os.geteuid() != 0:
        pytest.skip("a virtual rig needs root")
    base = tmp_path_factory.mktemp("newcomer")
    clone = make_clone(base / "a clone", base / "state")
    started = time.monotonic()
    done = clone.run("./rig", "up")
    seconds = time.monotonic() - started
    try:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
        yield Newcomer(clone, done.stdout, done.stderr, seconds)
    finally:
        down = clone.run("./rig", "down")
        assert down.returncode == 0, down.stderr
        assert list((base / "state").glob("*")) == []
