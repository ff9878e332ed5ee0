"""API keys: what a file may hold, and who is let in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig_runtime.errors import BadInput
from rig_runtime.gateway import keys


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_names_and_comments(tmp_path: Path) -> None:
    text = f"# who\nalice {digest('a')}\n\n  bob\t{digest('b').upper()}  # the second\n"
    found = keys.load(write(tmp_path / "keys", text))
    assert found.required
    assert (found.name_of("a"), found.name_of("b")) == ("alice", "bob")


@given(st.text())
def test_only_the_key_itself_fits(key: str) -> None:
    found = keys.Keys({"alice": hashlib.sha256(b"the key").digest()})
    assert (found.name_of(key) == "alice") == (key == "the key")


def test_a_digest_is_no_key(tmp_path: Path) -> None:
    found = keys.load(write(tmp_path / "keys", f"alice {digest('a')}"))
    assert found.name_of(digest("a")) is None


def test_without_a_file_no_key_is_required() -> None:
    assert not keys.load(None).required


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "at least one"),
        ("# nothing\n", "at least one"),
        ("alice\n", "line 1"),
        ("alice secret\n", "line 1"),
        (f"{digest('a')}\n", "line 1"),
        (f"a {digest('a')}\na {digest('b')}\n", "line 2"),
        (f"a b {digest('a')}\n", "line 1"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        keys.load(write(tmp_path / "keys", text))
    assert "secret" not in str(caught.value)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="readable"):
        keys.load(tmp_path / "missing")
