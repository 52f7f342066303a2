"""Sends an exchange's answer: as a stream of server-sent events, or whole."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sluice_gateway.errors import ApiError, InternalError
from sluice_gateway.exchange import Batch, Exchange
from sluice_gateway.gateway import Gateway
from sluice_gateway.http_protocol import ABORT_CONNECTION, ON_DISCONNECT, WRITE_BODY, WriteBody
from sluice_gateway.output import Delta, Event, Finished, FinishReason, TextDelta
from sluice_gateway.sse import DONE, KEEP_ALIVE, STREAM_HEADERS, error_event
from sluice_gateway.timings import server_timing, timings_json
from sluice_gateway.usage import Usage


class Chunks(Protocol):
    """Makes the chunks of one kind of stream, each a ready event."""

    def text(self, index: int, text: str) -> bytes:
        """A chunk of nothing but text."""

    def delta(self, index: int, event: Delta, usage: Usage | None = None) -> bytes:
        """A chunk of anything before the end, with what belongs to it."""

    def finish(self, index: int, reason: FinishReason, usage: Usage | None = None) -> bytes:
        """The last chunk of a choice."""

    def usage(self, usage: Usage, timings: Mapping[str, Any] | None) -> bytes:
        """The last chunk of a stream, with how long it took if that was asked for."""


class Answer(Protocol):
    """Folds events into a whole answer."""

    def add(self, index: int, event: Event) -> None:
        """Take in an event of a choice."""

    def body(self, usage: Usage) -> bytes:
        """The answer's JSON."""


class ExchangeResponse(Response):
    """Runs an exchange while its client is there; a client that leaves ends it."""

    def __init__(self, exchange: Exchange, gateway: Gateway) -> None:
        self.exchange = exchange
        self.gateway = gateway
        self.background = None
        self.write: WriteBody
        self.abort_connection: Callable[[], None]

    @abstractmethod
    async def answer(self, send: Send, send_body: Send) -> None:
        """Send the answer: its start by ``send``, its body by ``send_body``.

        Raises ApiError when nothing was sent yet.
        """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response, as ASGI has it."""
        extensions = scope["extensions"]
        self.write = extensions[WRITE_BODY]
        self.abort_connection = extensions[ABORT_CONNECTION]
        answering = asyncio.current_task()
        assert answering is not None
        left = False

        def leave() -> None:
            nonlocal left
            left = True
            answering.cancel()

        extensions[ON_DISCONNECT](leave)
        try:
            await self.answer(send, scope["state"]["send_body"])
        except asyncio.CancelledError:
            if not left or answering.uncancel():
                raise
            self.exchange.record.disconnected = True
            self.gateway.metrics.disconnects.inc()
        finally:
            extensions[ON_DISCONNECT](None)


class WholeResponse(ExchangeResponse):
    """The whole answer at once: a fold over the events of the exchange."""

    def __init__(self, exchange: Exchange, gateway: Gateway, answer: Answer) -> None:
        super().__init__(exchange, gateway)
        self._answer = answer

    async def answer(self, send: Send, send_body: Send) -> None:
        """See ExchangeResponse."""
        async with self.exchange.running():
            await self.exchange.deliver(self._take)
        body = self._answer.body(self.exchange.usage)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"server-timing", server_timing(self.exchange.record)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send_body({"type": "http.response.body", "body": body})

    def _take(self, batch: Batch) -> bool:
        for index, events in batch:
            for event in events:
                self._answer.add(index, event)
        return True


class StreamResponse(ExchangeResponse):
    """The answer as it is generated. The 200 is held until workers have taken the request."""

    def __init__(
        self,
        exchange: Exchange,
        gateway: Gateway,
        chunks: Chunks,
        opening: bytes,
        *,
        include_usage: bool,
        continuous_usage: bool,
        include_timings: bool,
    ) -> None:
        super().__init__(exchange, gateway)
        self._chunks = chunks
        self._opening = opening
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._include_timings = include_timings
        self._keeps_up = True
        self._pieces = 0

    async def answer(self, send: Send, send_body: Send) -> None:
        """See ExchangeResponse."""
        begun = False
        try:
            async with self.exchange.running():
                await send(
                    {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS}
                )
                begun = True
                self._put(self._opening)
                with self._kept_alive(self.gateway.settings.keepalive_seconds):
                    while not self.exchange.done:
                        await self.exchange.deliver(self._take)
                        if not self._keeps_up:
                            await self._catch_up(send_body)
            last = self._last_chunk() + DONE
        except TimeoutError:  # its connection is full: there is nobody to tell
            self.exchange.record.disconnected = True
            self.gateway.metrics.disconnects.inc()
            self.abort_connection()
            return
        except ApiError as error:
            if not begun:
                raise
            self.exchange.record.error = error
            last = error_event(error)
        except Exception:
            if begun:  # the client must see an error, never a text that just stops
                last = error_event(InternalError("The gateway failed."))
                await _send(send_body, last, more=True)
            raise
        await _send(send_body, last, more=False)

    def _last_chunk(self) -> bytes:
        if not self._include_usage:
            return b""
        timings = timings_json(self.exchange.record) if self._include_timings else None
        return self._chunks.usage(self.exchange.usage, timings)

    async def _catch_up(self, send_body: Send) -> None:
        """Return when the client has taken what was written. Raises TimeoutError."""
        async with asyncio.timeout(self.gateway.settings.client_stall_seconds):
            await _send(send_body, b"", more=True)  # waits for a slow client
        self._keeps_up = True

    def _take(self, batch: Batch) -> bool:
        if batch:
            self._pieces += 1
            self._put(self._frames(batch))
        return self._keeps_up

    def _put(self, data: bytes) -> None:
        if data:
            self._keeps_up = self.write(data)

    @contextlib.contextmanager
    def _kept_alive(self, seconds: float) -> Iterator[None]:
        """While entered, a comment goes out when nothing else did for so long."""
        loop = asyncio.get_running_loop()
        pieces = self._pieces
        timer: asyncio.TimerHandle

        def check() -> None:
            nonlocal timer, pieces
            if pieces == self._pieces:
                self.write(KEEP_ALIVE)
            pieces = self._pieces
            timer = loop.call_later(seconds, check)

        timer = loop.call_later(seconds, check)
        try:
            yield
        finally:
            timer.cancel()

    def _frames(self, batch: Batch) -> bytes:
        if len(batch) == 1 and not self._continuous_usage:
            index, events = batch[0]
            if len(events) == 1 and type(events[0]) is TextDelta:  # nearly every token
                return self._chunks.delta(index, events[0])
        usage = self.exchange.usage if self._continuous_usage else None
        frames = []
        for index, events in batch:
            for event in events:
                if isinstance(event, Finished):
                    frames.append(self._chunks.finish(index, event.reason, usage))
                else:
                    frames.append(self._chunks.delta(index, event, usage))
        return b"".join(frames)


def _send(send_body: Send, data: bytes, *, more: bool) -> Awaitable[None]:
    return send_body({"type": "http.response.body", "body": data, "more_body": more})
