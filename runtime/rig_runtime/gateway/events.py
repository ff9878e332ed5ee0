"""Whole server-sent events out of a stream of bytes."""

from __future__ import annotations

_DONE = b"data: [DONE]"
_ERROR = b'data: {"error"'
_MARKS = (b"\n\n", b"\r\n\r\n")


class WholeEvents:
    """Passes on only whole events, so that an error event can follow at any moment.

    An engine writes an event at once, so nothing is held back in practice; what is held when an
    engine dies is half an event, which no client could read.
    """

    def __init__(self) -> None:
        self.is_complete = False
        """Whether the stream has said [DONE]."""
        self.has_error = False
        """Whether the engine itself has told of an error."""
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole by now."""
        data = self._rest + data
        ends = [data.rfind(mark) + len(mark) for mark in _MARKS if mark in data]
        end = max(ends, default=0)
        whole, self._rest = data[:end], data[end:]
        # inside an event JSON escapes line ends: these bytes at a line's start are no text
        if whole.rstrip().endswith(_DONE):
            self.is_complete = True
        if whole.startswith(_ERROR) or b"\n" + _ERROR in whole:
            self.has_error = True
        return whole
