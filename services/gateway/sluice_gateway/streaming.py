"""Sends an exchange's answer: as a stream of server-sent events, or whole."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sluice_gateway.delivery import Batch
from sluice_gateway.errors import ApiError, InternalError
from sluice_gateway.exchange import Exchange
from sluice_gateway.fast_path import FastPath
from sluice_gateway.gateway import Gateway
from sluice_gateway.http_protocol import ABORT_CONNECTION, ON_DISCONNECT, WRITE_BODY, BodyWriter
from sluice_gateway.inter_token import Intervals
from sluice_gateway.output import Delta, Event, Finished, FinishReason, TextDelta
from sluice_gateway.sse import DONE, KEEP_ALIVE, STREAM_HEADERS, error_event
from sluice_gateway.timings import server_timing, timings_json
from sluice_gateway.usage import Usage


class Chunks(Protocol):
    """Makes the chunks of one kind of stream, each a ready event."""

    def around_text(self, index: int) -> tuple[bytes, bytes]:
        """What a chunk of nothing but text has before and after the JSON of the text."""

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
        self.write: BodyWriter
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
            await self.exchange.deliver(self)
        body = self._answer.body(self.exchange.usage)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"server-timing", server_timing(self.exchange.record)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send_body({"type": "http.response.body", "body": body})

    def take(self, batch: Batch) -> None:
        """See Consumer."""
        for index, events in batch:
            for event in events:
                self._answer.add(index, event)

    def send(self) -> bool:
        """See Consumer. The answer goes out as a whole."""
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
        self._ready = b""
        self._trouble: Exception | None = None
        lone = len(exchange.choices) == 1 and not continuous_usage
        #: The choice whose chunks have nothing but its text in them.
        self._lone = exchange.choices[0] if lone else None

    async def answer(self, send: Send, send_body: Send) -> None:
        """See ExchangeResponse."""
        begun = False
        try:
            async with self.exchange.running():
                await send(
                    {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS}
                )
                begun = True
                if self._opening:
                    self._write(self._opening)
                with self._short_way(), self._kept_alive(self.gateway.settings.keepalive_seconds):
                    while not self.exchange.done:
                        await self.exchange.deliver(self)
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

    def take(self, batch: Batch) -> None:
        """See Consumer."""
        if batch:
            self._ready += self._frames(batch)

    def send(self) -> bool:
        """See Consumer."""
        if self._ready:
            data, self._ready = self._ready, b""
            self._write(data)
        if self._trouble is not None:
            raise self._trouble
        return self._keeps_up

    def _write(self, data: bytes) -> None:
        self._pieces += 1
        self._keeps_up = self.write(data)

    @property
    def _sent(self) -> int:
        """The chunks that were sent."""
        path = self._lone.row.fast_path if self._lone is not None else None
        return self._pieces + (path.sent if path is not None else 0)

    @contextlib.contextmanager
    def _short_way(self) -> Iterator[None]:
        """While entered, tokens that are nothing but text go past events, if they ever can."""
        if self._lone is None:
            yield
            return
        self._lone.make_path(self._make_path)
        try:
            yield
        finally:
            # It leads back here: left alone, each request would wait for the garbage collector.
            self._lone.drop_path()

    def _make_path(
        self, texts: Sequence[str | None], stop_ids: frozenset[int], intervals: Intervals
    ) -> FastPath:
        around = self._chunks.around_text(0)
        return FastPath(texts, stop_ids, around, self.write, intervals, self._on_trouble)

    def _on_trouble(self, trouble: Exception | None) -> None:
        """See FastPath."""
        self._keeps_up = False
        self._trouble = trouble
        self.exchange.wake()

    @contextlib.contextmanager
    def _kept_alive(self, seconds: float) -> Iterator[None]:
        """While entered, a comment goes out when nothing else did for so long."""
        loop = asyncio.get_running_loop()
        pieces = self._sent
        timer: asyncio.TimerHandle

        def check() -> None:
            nonlocal timer, pieces
            if pieces == self._sent:
                self.write(KEEP_ALIVE)
            pieces = self._sent
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
