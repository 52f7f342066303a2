"""uvicorn's HTTP protocol, with bounds on a request's head and a direct way to its connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

#: ASGI extension, of type ``WriteBody``.
WRITE_BODY = "sluice.write_body"

#: Writes a piece of a chunked body, after its start was sent. Returns whether the client keeps
#: up; if not, ``send`` waits until it does.
WriteBody = Callable[[bytes], bool]

#: ASGI extension: closes the connection at once, without what waits to be sent.
ABORT_CONNECTION = "sluice.abort_connection"

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 15.0


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers are too large or too slow.

    And offers the extension WRITE_BODY: a stream of small chunks spends most of ASGI's cost on
    ``send``, a coroutine and a message for each.

    Between requests uvicorn's keep-alive timeout rules; the body is bounded where it is read.
    """

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _head_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that stays open; its first read is not counted."""
        was_open = self._head_open
        super().data_received(data)
        if was_open and self._head_open:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        """A head begins; on a connection kept alive the clock starts anew."""
        super().on_message_begin()
        self._head_open = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        self._head_open = False
        self._stop_timer()
        super().on_headers_complete()
        extension = {
            WRITE_BODY: partial(_write_body, self.cycle),
            ABORT_CONNECTION: self.transport.abort,
        }
        self.scope["extensions"] = extension  # type: ignore[typeddict-item]  # no dict, by ASGI

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.send_400_response("The request's headers did not come in time.")


def _write_body(cycle: RequestResponseCycle, data: bytes) -> bool:
    if cycle.disconnected:
        return True  # as ``send`` does: what is written to nobody is gone
    cycle.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
    return not cycle.flow.write_paused
