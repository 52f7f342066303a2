"""uvicorn's HTTP protocol, with bounds on what comes in and a direct way to the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

#: ASGI extension, of type ``BodyWriter``.
WRITE_BODY = "sluice.write_body"

#: ASGI extension: closes the connection at once, without what waits to be sent.
ABORT_CONNECTION = "sluice.abort_connection"

#: ASGI extension, of type ``OnDisconnect``.
ON_DISCONNECT = "sluice.on_disconnect"

#: Takes what is to be called, once, when the client leaves before its answer is complete; at
#: once if it has left. None: nothing is to be called any more.
OnDisconnect = Callable[[Callable[[], None] | None], None]

#: Of a request line, headers and trailers together.
MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 15.0

#: What a client may send beyond a request that is still being answered; it is thrown away.
MAX_SURPLUS_BYTES = 1 << 20

#: How long the rest of a request is thrown away after its answer, until the connection closes.
LINGER_SECONDS = 5.0

TOO_LARGE = "The request's headers are too large."
TOO_SLOW = "The request's headers did not come in time."


class BoundedHttpProtocol(HttpToolsProtocol):
    """Serves one request at a time, and closes a connection that sends too much or too slowly.

    A request is parsed only when the one before it was answered. What comes earlier is thrown
    away and the connection closes after the answer: who pipelines asks again (RFC 9112, 9.3.2).
    While a request is answered its connection is read on, so that a client that leaves is seen.

    A body is bounded where it is read; one that nobody reads is not waited for after the answer.
    Between requests uvicorn's keep-alive timeout rules. No upgrade is ever accepted.

    And offers three extensions. WRITE_BODY: a stream of small chunks spends most of ASGI's cost on
    ``send``, a coroutine and a message for each. ON_DISCONNECT: else a second task would have to
    wait in ``receive`` for as long as an answer takes. ABORT_CONNECTION: see there.
    """

    # What the parser reported of this message's head and trailers, and what it was fed since it
    # last reported anything: httptools keeps a header to itself until the next one begins.
    _head_bytes = 0
    _unreported_bytes = 0
    _surplus_bytes = 0

    _head_open = False  # from the first byte of a request to the end of its headers
    _message_open = False  # from there to the end of its body and trailers
    _surplus = False  # there was more than the request
    lingering = False  # all is answered, and what still comes is thrown away

    _disconnect_listener: Callable[[], None] | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._stop_head_timer()
        self._stop_linger_timer()
        super().connection_lost(exc)
        self._tell_of_disconnect()

    def data_received(self, data: bytes) -> None:
        """Parse what belongs to the request at hand; throw away what comes too early or late."""
        self._unset_keepalive_if_required()
        if self.lingering or self.transport.is_closing():
            return
        if self._answering:
            self._throw_away(data)
            return
        if not self._message_open:
            self._start_head_timer()
        self._unreported_bytes += len(data)
        self._parse(data)
        if self._head_bytes + self._unreported_bytes > MAX_HEAD_BYTES:
            self._refuse(431, TOO_LARGE)

    @property
    def _answering(self) -> bool:
        if self._head_open or self._message_open or self.cycle is None:
            return False
        return not self.cycle.response_complete

    def _throw_away(self, data: bytes) -> None:
        self._surplus_bytes += len(data)
        if data.strip(b"\r\n"):  # some clients end a body with a line break
            self._note_surplus()
        if self._surplus_bytes > MAX_SURPLUS_BYTES:
            self.transport.abort()

    def _note_surplus(self) -> None:
        self._surplus = True
        self.cycle.keep_alive = False

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parse_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._answering:
                self._note_surplus()
            elif self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, TOO_LARGE)
            else:
                self._refuse(400, "Invalid HTTP request received.")

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Parse the head again, less its wish for another protocol, and then ``rest``.

        At such a head llhttp ends the request without its body.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(400, "CONNECT is not supported.")
            return
        head = [b"%b %b HTTP/%b" % (method, self.url, self.parser.get_http_version().encode())]
        head += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join([*head, b"", rest]))

    def on_message_begin(self) -> None:
        """A head begins, or, if the last request is not answered yet, the surplus."""
        if self._answering:
            raise _Pipelined
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self._head_open = True
        self._head_bytes = self._unreported_bytes = self._surplus_bytes = 0
        self._start_head_timer()

    def on_url(self, url: bytes) -> None:
        """A piece of the path and the query."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer: those are not used, as RFC 9110, 6.5.1 has it."""
        self._count(len(name) + len(value))
        if self._head_open:
            super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._unreported_bytes = 0
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _TooLarge

    def on_headers_complete(self) -> None:
        """The head is complete."""
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        self._head_open = False
        self._message_open = True
        self._stop_head_timer()
        self.cycle.transport = _CycleTransport(self)  # type: ignore[assignment]  # all it uses
        extension = {
            WRITE_BODY: BodyWriter(self.cycle, self.transport),
            ABORT_CONNECTION: self.transport.abort,
            ON_DISCONNECT: self._on_disconnect,
        }
        self.scope["extensions"] = extension  # type: ignore[typeddict-item]  # no dict, by ASGI

    def _on_disconnect(self, listener: Callable[[], None] | None) -> None:
        self._disconnect_listener = listener
        self._tell_of_disconnect()

    def _tell_of_disconnect(self) -> None:
        listener, cycle = self._disconnect_listener, self.cycle
        if listener is not None and cycle.disconnected:
            self._disconnect_listener = None
            listener()

    def on_chunk_header(self) -> None:
        """The size of a chunk was read."""
        self._unreported_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body; dropped when the answer is complete."""
        self._unreported_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self.parser.should_upgrade():
            return
        self._message_open = False
        self._head_bytes = self._unreported_bytes = 0
        super().on_message_complete()
        if self.cycle.response_complete:  # it was answered before its end
            self._stop_linger_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """The answer is complete; its request has to end soon."""
        super().on_response_complete()
        if self._message_open and not self.transport.is_closing():
            self._start_linger_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, msg)

    def close(self) -> None:
        """Close the connection so that the client sees its answer.

        While it still sends, closing at once would reset the connection, and the answer with it.
        """
        if self.lingering or self.transport.is_closing():
            return
        if not (self._message_open or self._surplus):
            self.transport.close()
            return
        self.lingering = True
        self.flow.resume_reading()
        self.transport.write_eof()
        self._start_linger_timer()

    def _refuse(self, status: int, message: str) -> None:
        """Answer in the application's stead, if nothing was answered yet, and close."""
        if self.lingering or self.transport.is_closing():
            return
        cycle = None if self._head_open else self.cycle
        if cycle is None or not cycle.response_started:
            self.transport.write(
                b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%b"
                % (STATUS_LINE[status], len(message), message.encode("ascii"))
            )
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            self._tell_of_disconnect()
        self._message_open = True  # whatever comes is the rest of it
        self._stop_head_timer()
        self.close()

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._refuse, 408, TOO_SLOW)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _start_linger_timer(self) -> None:
        if self._linger_timer is None:
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _stop_linger_timer(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None


class _Pipelined(Exception):
    """Ends the parsing at a request that came before the last one was answered."""


class _TooLarge(Exception):
    """Ends the parsing of a head."""


class _CycleTransport:
    """The connection as uvicorn's request cycle uses it; it closes only as the protocol does."""

    __slots__ = ("_protocol", "close", "write")

    def __init__(self, protocol: BoundedHttpProtocol) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.close = protocol.close

    def is_closing(self) -> bool:
        protocol = self._protocol
        return protocol.lingering or protocol.transport.is_closing()


class BodyWriter:
    """Writes pieces of a chunked body, after its start was sent."""

    __slots__ = ("cycle", "transport")

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
        self.cycle = cycle
        self.transport = transport

    def __call__(self, data: bytes) -> bool:
        """Write a piece. Whether the client keeps up; if not, ``send`` waits until it does."""
        cycle, transport = self.cycle, self.transport
        if cycle.disconnected or transport.is_closing():
            return True  # as ``send`` does: what is written to nobody is gone
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return not cycle.flow.write_paused
