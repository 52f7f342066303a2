"""One gateway's session: its rows, and the frames that wait to be sent to it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker import frames, wire
from sluice_worker.engines.base import (
    Engine,
    ErrorCode,
    FinishReason,
    GenerationRequest,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    StructuredOutput,
)
from sluice_worker.preparing import Preparer

log = logging.getLogger(__name__)

#: A gateway always reads. One that lets so many frames pile up does not live.
MAX_FRAMES = 8192


class SessionStuck(Exception):
    """The gateway does not read its session."""


@dataclass(eq=False, slots=True)
class _Preparation:
    """A request that is not answered yet: its structured output is being compiled."""

    submit: pb.Submit
    request: GenerationRequest
    task: asyncio.Task[None] | None = field(default=None)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if self.task:
            self.task.cancel()


class GatewaySession:
    """Rows of one gateway. Lives on the event loop's thread.

    ``on_rows`` is called when rows that were prepared have come to the engine or have gone.
    """

    def __init__(
        self, number: int, gateway: str, preparer: Preparer, on_rows: Callable[[], None]
    ) -> None:
        self.number = number
        self.gateway = gateway
        self._preparer = preparer
        self._on_rows = on_rows
        self._rows: set[int] = set()
        self._preparing: dict[int, _Preparation] = {}
        self._frames: deque[pb.SessionResponse] = deque()
        self._wake = asyncio.Event()
        self._stuck = asyncio.Event()

    def __repr__(self) -> str:
        return f"<GatewaySession {self.number} of {self.gateway}: {self.row_count} rows>"

    @property
    def row_count(self) -> int:
        """Rows that have not ended."""
        return len(self._rows) + len(self._preparing)

    @property
    def engine_row_count(self) -> int:
        """Those of them that the engine has: the others are being prepared."""
        return len(self._rows)

    def send(self, frame: pb.SessionResponse) -> None:
        """Queue a frame for the gateway."""
        if len(self._frames) >= MAX_FRAMES:
            self._stuck.set()
        else:
            self._frames.append(frame)
        self._wake.set()

    async def frames(self) -> AsyncIterator[pb.SessionResponse]:
        """The queued frames, for ever."""
        while True:
            while self._frames:
                yield self._frames.popleft()
            self._wake.clear()
            await self._wake.wait()

    async def wait_stuck(self) -> NoReturn:
        """Raise SessionStuck when too many frames pile up: the gateway does not read."""
        await self._stuck.wait()
        raise SessionStuck(f"{self!r} left {MAX_FRAMES} frames unread")

    def submit(self, submit: pb.Submit, engine: Engine) -> None:
        """Hand a request to the engine, and queue the Admission that answers it.

        One with a structured output is prepared before, and the others do not wait for it.
        """
        try:
            request = wire.generation_request(self.number, submit, engine.model)
            new_rows = {spec.key.row_id for spec in request.rows}
            self._check_new(new_rows, len(request.rows))
        except RequestError as error:
            self._refuse(submit, error)
            return
        output = request.sampling.structured_output
        if output is None:
            self._hand_over(submit, request, engine)
            return
        preparation = _Preparation(submit, request)
        self._preparing |= dict.fromkeys(new_rows, preparation)
        preparation.task = asyncio.create_task(self._prepare(preparation, output, engine))

    def _check_new(self, row_ids: set[int], count: int) -> None:
        taken = self._rows | self._preparing.keys()
        if len(row_ids) != count or row_ids & taken:
            message = "rows.row_id: each row of a session needs an id of its own"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, message, "rows.row_id")

    async def _prepare(
        self, preparation: _Preparation, output: StructuredOutput, engine: Engine
    ) -> None:
        """Have the engine compile ``output``; then hand over the rows that are still wanted."""
        submit, request = preparation.submit, preparation.request
        refusal = None
        try:
            await self._preparer.prepare(engine, output)
        except Exception as error:  # noqa: BLE001 (it is the answer to this request alone)
            refusal = error
        wanted = {key for key, each in self._preparing.items() if each is preparation}
        for row_id in wanted:
            del self._preparing[row_id]
        rows = tuple(spec for spec in request.rows if spec.key.row_id in wanted)
        if rows and refusal:
            self._refuse(submit, refusal)
        elif rows:
            self._hand_over(submit, replace(request, rows=rows), engine)
        self._on_rows()

    def _hand_over(self, submit: pb.Submit, request: GenerationRequest, engine: Engine) -> None:
        try:
            engine.submit(request)
        except Exception as error:  # noqa: BLE001 (only this request fails: the session has others)
            self._refuse(submit, error)
            return
        self._rows.update(spec.key.row_id for spec in request.rows)
        self.answer(submit, None)

    def _refuse(self, submit: pb.Submit, error: Exception) -> None:
        if isinstance(error, RequestError):
            log.info("request %s refused: %s", submit.request_id, error.message)
            self.answer(submit, error)
            return
        log.error("request %s could not be submitted", submit.request_id, exc_info=error)
        message = "The worker could not take this request."
        self.answer(submit, RequestError(ErrorCode.INTERNAL, message))

    def answer(self, submit: pb.Submit, refusal: RequestError | None) -> None:
        """Queue the Admission that answers ``submit``; without a ``refusal`` it is accepted."""
        admission = pb.Admission(
            row_id=submit.rows[0].row_id if submit.rows else 0,
            error=frames.error_message(refusal) if refusal else None,
        )
        self.send(pb.SessionResponse(admission=admission))

    def abort(self, row_ids: Iterable[int], engine: Engine) -> None:
        """Drop rows that the gateway no longer wants.

        A request that loses all of them while it is prepared is not answered.
        """
        row_ids = set(row_ids)
        self._stop_preparing(row_ids)
        gone = self._rows & row_ids
        self._rows -= gone
        engine.abort([RowKey(self.number, row_id) for row_id in gone])

    def _stop_preparing(self, row_ids: Iterable[int]) -> None:
        touched = {each for row_id in row_ids if (each := self._preparing.pop(row_id, None))}
        for preparation in touched.difference(self._preparing.values()):
            preparation.cancel()

    def abort_all(self, engine: Engine) -> None:
        """Drop every row: the gateway is gone."""
        self.abort(self._rows | self._preparing.keys(), engine)

    def fail_all(self, error: RequestError) -> None:
        """End every row with ``error``: the engine is dead."""
        for preparation in set(self._preparing.values()):
            preparation.cancel()
            self.answer(preparation.submit, error)
        self._preparing.clear()
        finish = RowFinish(FinishReason.ERROR, error=error)
        keys = [RowKey(self.number, row_id) for row_id in sorted(self._rows)]
        self.deliver([RowOutput(key, [], finish=finish) for key in keys], 0)

    def deliver(self, rows: Sequence[RowOutput], batch_size: int) -> None:
        """Queue what one engine step produced for this gateway."""
        live = [row for row in rows if row.key.row_id in self._rows]
        if live:
            for frame in frames.step_messages(live, batch_size):
                self.send(frame)
            self._rows -= {row.key.row_id for row in live if row.finish}
