"""Which processes and which files in /dev/shm are an engine's: real ones of both."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rig_runtime import procfs
from rig_runtime.procfs import SharedFile

Until = Callable[[Callable[[], Any], str], Any]
SLEEP = [sys.executable, "-S", "-c", "import signal; signal.pause()"]


@pytest.fixture
def shared() -> Iterator[Callable[[], SharedFile]]:
    """Make files in /dev/shm; all are removed in the end."""
    made: list[Path] = []

    def make() -> SharedFile:
        path = procfs.SHARED_MEMORY / f"psm_test_{uuid.uuid4().hex}"
        path.write_bytes(bytes(4096))
        made.append(path)
        return SharedFile(path.name, path.stat().st_ino)

    yield make
    for path in made:
        path.unlink(missing_ok=True)


def exists(file: SharedFile) -> bool:
    return file in set(procfs.all_shared_files())


def test_a_session_is_found_with_its_orphans(tmp_path: Path, until: Until) -> None:
    """A shell starts a child in its session and ends: the child is an orphan."""
    leader = subprocess.Popen(
        ["/bin/sh", "-c", "cd /; sleep 60 & exit 0"], cwd=tmp_path, start_new_session=True
    )
    leader.wait()

    def orphans() -> list[procfs.Process]:
        return procfs.members(session=leader.pid, directory=tmp_path)

    until(lambda: [orphan.name for orphan in orphans()] == ["sleep"], "the child is a sleep")
    (orphan,) = orphans()
    assert orphan.session == leader.pid
    os.kill(orphan.pid, 9)
    until(lambda: not orphans(), "its end")


def test_a_process_that_left_the_session_is_found_by_its_directory(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEP, cwd=tmp_path, start_new_session=True) as process:
        found = procfs.members(session=None, directory=tmp_path)
        assert [p.pid for p in found] == [process.pid]
        assert procfs.members(session=None, directory=tmp_path / "other") == []
        process.kill()


def test_this_process_is_no_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert procfs.members(session=os.getsid(0), directory=Path("/nowhere")) is not None
    assert os.getpid() not in [p.pid for p in procfs.members(session=None, directory=tmp_path)]


def test_a_zombie_has_ended(tmp_path: Path, until: Until) -> None:
    process = subprocess.Popen(["/bin/true"], cwd=tmp_path)
    until(lambda: procfs.read(process.pid) is None, "the zombie")
    assert Path(f"/proc/{process.pid}").exists()
    process.wait()


def test_names_with_parentheses_are_read(tmp_path: Path) -> None:
    binary = tmp_path / "a) S (b"
    binary.symlink_to("/bin/sleep")
    with subprocess.Popen([str(binary), "60"]) as process:
        found = procfs.read(process.pid)
        assert found is not None
        assert found.session == os.getsid(0)
        process.kill()


def test_mapped_and_open_files_are_seen(shared: Callable[[], SharedFile]) -> None:
    mapped, opened, neither = shared(), shared(), shared()
    with (
        (procfs.SHARED_MEMORY / mapped.name).open("r+b") as first,
        mmap.mmap(first.fileno(), 4096),
        (procfs.SHARED_MEMORY / opened.name).open("rb"),
    ):
        first.close()
        found = procfs.shared_files([os.getpid()])
    assert {mapped, opened} <= found
    assert neither not in found


def test_leftovers_removes_what_was_seen_and_what_is_new(shared: Callable[[], SharedFile]) -> None:
    foreign = shared()
    before = set(procfs.all_shared_files())
    known, unseen = shared(), shared()
    procfs.leftovers({known}, before, ("psm_test_",))
    assert [exists(file) for file in (foreign, known, unseen)] == [True, False, False]


def test_leftovers_spares_what_another_process_holds(shared: Callable[[], SharedFile]) -> None:
    file = shared()
    with (procfs.SHARED_MEMORY / file.name).open("rb"):
        procfs.leftovers(set(), set(), ("psm_test_",))
        assert exists(file)


def test_leftovers_spares_a_semaphore_that_is_in_use() -> None:
    """The kernel shows its maker another, deleted name for it."""
    before = set(procfs.all_shared_files())
    semaphore = multiprocessing.get_context("spawn").Semaphore()
    (made,) = set(procfs.all_shared_files()) - before
    procfs.leftovers(set(), before, ("sem.mp-",))
    assert exists(made)
    assert made in procfs.shared_files([os.getpid()])
    del semaphore


def test_leftovers_spares_other_names(shared: Callable[[], SharedFile]) -> None:
    file = shared()
    procfs.leftovers(set(), set(), ("vllm_dist_never",))
    assert exists(file)


def test_leftovers_spares_a_later_file_with_the_same_name(
    shared: Callable[[], SharedFile],
) -> None:
    later = shared()
    procfs.leftovers({SharedFile(later.name, later.inode + 1)}, {later}, ())
    assert exists(later)
