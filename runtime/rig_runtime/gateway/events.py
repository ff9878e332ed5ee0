"""Whole server-sent events out of a stream of bytes."""

from __future__ import annotations

from rig_runtime.gateway.apis import Api

_MARKS = (b"\n\n", b"\r\n\r\n")


class WholeEvents:
    """Passes on only whole events, so that an error event can follow at any moment.

    An engine writes an event at once, so nothing is held back in practice; what is held when an
    engine dies is half an event, which no client could read.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self.is_complete = False
        """Whether the stream has had its last event."""
        self.has_error = False
        """Whether the engine itself has told of an error."""
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole by now."""
        data = self._rest + data
        ends = [data.rfind(mark) + len(mark) for mark in _MARKS if mark in data]
        end = max(ends, default=0)
        whole, self._rest = data[:end], data[end:]
        if whole:
            self._look_at(whole)
        return whole

    def _look_at(self, whole: bytes) -> None:
        """Inside an event JSON escapes line ends: these marks at a line's start are no text."""
        text = whole.replace(b"\r\n", b"\n").rstrip()
        if text.rpartition(b"\n\n")[2].startswith(self._api.ends):
            self.is_complete = True
        if any(text.startswith(mark) or b"\n" + mark in text for mark in self._api.errors):
            self.has_error = True
