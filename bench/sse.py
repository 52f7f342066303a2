"""A streamed chat completion, read with as little work as possible. Does no I/O."""

from __future__ import annotations

import enum
import re

_CONTENT = re.compile(rb'"content":\s*"(?!")')
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


class Event(enum.Enum):
    """What came."""

    CONTENT = "content"  # a chunk with text in it
    OTHER = "other"  # role, finish reason, usage, comments, [DONE]
    END = "end"  # the response is complete; the connection may be used again


class BadResponse(Exception):
    """Not a stream with status 200 and chunked transfer coding."""


class StreamReader:
    """Bytes of HTTP/1.1 responses in, events out: ``feed(data) -> list[Event]``.

    ``tokens`` is what the usage chunk of the response told, -1 until then.
    """

    def __init__(self) -> None:
        self._buffer = b""  # of the connection
        self._body = b""  # of an event not yet whole
        self._in_body = False
        self.tokens = -1

    def feed(self, data: bytes) -> list[Event]:
        """The events that ``data`` completes. Raises BadResponse."""
        buffer = self._buffer + data if self._buffer else data
        events: list[Event] = []
        position = 0 if self._in_body else self._read_head(buffer)
        while self._in_body:
            size_end = buffer.find(b"\r\n", position)
            if size_end < 0:
                break
            size = int(buffer[position:size_end], 16)
            end = size_end + 2 + size
            if len(buffer) < end + 2:
                break
            self._read_body(buffer[size_end + 2 : end], events)
            position = end + 2
            if size == 0:
                self._in_body = False
                events.append(Event.END)
        self._buffer = buffer[position:]
        return events

    def _read_head(self, buffer: bytes) -> int:
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return 0
        head = buffer[:end].lower()
        status = _STATUS.match(buffer)
        if not status or status[1] != b"200" or b"transfer-encoding: chunked" not in head:
            raise BadResponse(buffer[:1000].decode(errors="replace"))
        self._in_body = True
        self._body = b""
        self.tokens = -1
        return end + 4

    def _read_body(self, data: bytes, events: list[Event]) -> None:
        *whole, self._body = (self._body + data if self._body else data).split(b"\n\n")
        for event in whole:
            if _CONTENT.search(event):
                events.append(Event.CONTENT)
                continue
            events.append(Event.OTHER)
            if found := _TOKENS.search(event):
                self.tokens = int(found[1])
