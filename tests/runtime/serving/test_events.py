"""Server-sent events: nothing lost, nothing reordered, only whole ones."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig_runtime.gateway.apis import OPENAI
from rig_runtime.gateway.events import WholeEvents

END = st.sampled_from([b"\n\n", b"\r\n\r\n"])
EVENT = st.builds(
    lambda text, end: b"data: " + text.encode() + end,
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30),
    END,
)


@st.composite
def cut_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, whole, and the same in pieces as a network may cut it."""
    stream = b"".join(draw(st.lists(EVENT)))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)))))
    bounds = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(bounds)]
    return stream, pieces


@given(cut_streams())
def test_pieces_come_out_as_they_went_in(case: tuple[bytes, list[bytes]]) -> None:
    stream, pieces = case
    events = WholeEvents(OPENAI)
    assert b"".join(events.feed(piece) for piece in pieces) == stream


@given(cut_streams())
def test_what_comes_out_ends_with_an_event(case: tuple[bytes, list[bytes]]) -> None:
    events = WholeEvents(OPENAI)
    for piece in case[1]:
        out = events.feed(piece)
        assert not out or out.endswith((b"\n\n", b"\r\n\r\n"))


@given(st.lists(EVENT), st.booleans())
def test_a_stream_is_complete_when_it_says_so(before: list[bytes], is_done: bool) -> None:
    events = WholeEvents(OPENAI)
    for event in before:
        events.feed(event)
    if is_done:
        events.feed(b"data: [DO")
        assert not events.is_complete
        events.feed(b"NE]\n\n")
    assert events.is_complete == is_done


def test_half_an_event_is_held_back() -> None:
    events = WholeEvents(OPENAI)
    assert events.feed(b'data: {"a"') == b""
    assert events.feed(b': 1}\n\ndata: {"b') == b'data: {"a": 1}\n\n'


def test_the_word_done_in_a_text_is_no_end() -> None:
    events = WholeEvents(OPENAI)
    events.feed(b'data: {"text": "data: [DONE]"}\n\n')
    assert not events.is_complete


@pytest.mark.parametrize(
    ("stream", "has_error"),
    [
        (b'data: {"error": {}}\n\n', True),
        (b'data: {"a": 1}\n\ndata: {"error": {}}\n\ndata: [DONE]\n\n', True),
        (b'data: {"text": "data: {\\"error\\""}\n\n', False),
    ],
)
def test_an_engine_s_error_is_seen(stream: bytes, has_error: bool) -> None:
    events = WholeEvents(OPENAI)
    events.feed(stream)
    assert events.has_error == has_error
