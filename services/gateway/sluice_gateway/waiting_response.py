"""The answer of a request that may wait for its model first."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from sluice_gateway.errors import ApiError, InternalError, Overloaded
from sluice_gateway.gateway import Gateway, gateway_of
from sluice_gateway.http_protocol import ABORT_CONNECTION
from sluice_gateway.loading import Loading
from sluice_gateway.model import ServedModel
from sluice_gateway.sse import KEEP_ALIVE, STREAM_HEADERS, error_event
from sluice_gateway.waiting import model_or_hope, wait_for_model, wait_seconds

#: Makes the answer once the model is there.
Answering = Callable[[ServedModel], Awaitable[Response]]

#: ``wait_for_model`` less what is known beforehand.
Waiting = Callable[..., Coroutine[Any, Any, ServedModel]]

#: Waits a moment before the next try. Returns True.
Pause = Callable[[], Coroutine[Any, Any, bool]]

#: How long one who waited waits for room, before it asks again.
PAUSE_SECONDS = (0.2, 1.0)

T = TypeVar("T")


async def when_ready(
    request: Request, name: str | None, answering: Answering, *, rows: int = 1, stream: bool = False
) -> Response:
    """What ``answering`` answers: at once or, if the request would wait, when its model is there.

    ``rows`` is how many places it takes while it waits. Raises ApiError when the model is not
    there and the request would not wait, or waiting would not help.
    """
    gateway = gateway_of(request)
    seconds = wait_seconds(request.scope["headers"], gateway.settings.wait_max_seconds)
    found = model_or_hope(gateway.router, name)
    if isinstance(found, ServedModel):
        return await answering(found)
    if seconds is None:
        raise found
    waiting = partial(wait_for_model, gateway, name, seconds, rows=rows)
    kind = WaitingStream if stream else WaitingResponse
    return kind(gateway, waiting, answering, seconds)


class WaitingResponse(Response):
    """Sends nothing until the model is there, and then what ``answering`` makes of it."""

    def __init__(
        self, gateway: Gateway, waiting: Waiting, answering: Answering, seconds: float
    ) -> None:
        """``seconds`` is how long the request would wait in all."""
        self.background = None
        self._gateway = gateway
        self._waiting = waiting
        self._answering = answering
        self._deadline = time.monotonic() + seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response, as ASGI has it. Raises ApiError when nothing was sent yet."""
        await self._serve(self._waiting(), scope, receive, send, _pause)

    async def _serve(
        self,
        waiting: Coroutine[Any, Any, ServedModel],
        scope: Scope,
        receive: Receive,
        send: Send,
        pause: Pause,
    ) -> None:
        record = scope["state"]["record"]
        record.waits = True
        model = await _unless_left(receive, waiting)
        while model is not None:
            # What is measured from the arrival tells of serving, not of the model's download.
            record.serve_from_now()
            try:
                response = await self._answering(model)
                await response(scope, receive, send)
            except Overloaded:
                # All who waited come at the same moment, through other gateways too.
                if time.monotonic() >= self._deadline:
                    raise
            else:
                return
            if not await _unless_left(receive, pause()):
                break
        record.disconnected = True
        self._gateway.metrics.disconnects.inc()


class WaitingStream(WaitingResponse):
    """Begins its stream at once, with comments that tell how far the model is.

    So its status is 200 whatever comes: an error after that is an event of the stream.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See WaitingResponse."""
        start = _Start(send, self._gateway.settings.client_stall_seconds)
        try:
            await self._serve(
                self._waiting(tell=start.tell), scope, receive, start.send, start.pause
            )
        except _ClientStalled:
            scope["state"]["record"].disconnected = True
            self._gateway.metrics.disconnects.inc()
            scope["extensions"][ABORT_CONNECTION]()
        except ApiError as error:
            if not start.sent:
                raise
            scope["state"]["record"].error = error
            self._gateway.metrics.rejected.labels(error.code or error.type).inc()
            await start.end(error)
        except Exception:
            if start.sent:  # the client must see an error, never a stream that just stops
                await start.end(InternalError("The gateway failed."))
            raise


class _ClientStalled(Exception):
    """The connection is full, and stays so: there is nobody to tell."""


class _Start:
    """Begins a stream before its answer is there, which then goes on without its own start."""

    def __init__(self, send: Send, stall_seconds: float) -> None:
        self.sent = False
        self._answer_began = False
        self._send = send
        self._stall_seconds = stall_seconds

    async def tell(self, loading: Loading) -> None:
        """Send a comment that tells how far the model is."""
        await self._comment(f": model_loading {json.dumps(loading.as_json())}\n\n".encode())

    async def pause(self) -> bool:
        """Wait a moment, and show that the connection lives."""
        await self._comment(KEEP_ALIVE)
        return await _pause()

    async def _comment(self, comment: bytes) -> None:
        try:
            async with asyncio.timeout(self._stall_seconds):
                if not self.sent:
                    self.sent = True
                    head = {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS}
                    await self._send(head)
                await self._send_piece(comment)
        except TimeoutError:
            raise _ClientStalled from None

    async def send(self, message: Message) -> None:
        """What the answer sends with: its start is left out if there was one."""
        if message["type"] == "http.response.start":
            self._answer_began = True
            if self.sent:
                return
        await self._send(message)

    async def end(self, error: ApiError) -> None:
        """End the stream, unless the answer has begun: then it has told of its errors itself."""
        if not self._answer_began:
            await self._send_piece(error_event(error), more=False)

    async def _send_piece(self, data: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


async def _pause() -> bool:
    await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
    return True


async def _unless_left(receive: Receive, waiting: Coroutine[Any, Any, T]) -> T | None:
    """What ``waiting`` gives, or None if the client leaves before."""
    result = asyncio.ensure_future(waiting)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((result, leaving), return_when=asyncio.FIRST_COMPLETED)
        return result.result() if result.done() else None
    finally:
        for task in (result, leaving):
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
