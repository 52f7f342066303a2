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
from sluice_worker.request_record import ABORTED, SESSION_LOST, RequestRecord, StepCount

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
    record: RequestRecord
    task: asyncio.Task[None] | None = field(default=None)

    def cancel(self) -> None:
        """Nobody wants it any more."""
        if self.task:
            self.task.cancel()


class GatewaySession:
    """Rows of one gateway. Lives on the event loop's thread.

    ``on_rows`` is called when rows that were prepared have come to the engine or have gone,
    ``on_end`` when the last row of a request has ended or it was refused.
    """

    def __init__(
        self,
        number: int,
        gateway: str,
        preparer: Preparer,
        on_rows: Callable[[], None],
        on_end: Callable[[RequestRecord], None],
    ) -> None:
        self.number = number
        self.gateway = gateway
        self._preparer = preparer
        self._on_rows = on_rows
        self._on_end = on_end
        self._steps = StepCount()
        self._rows: dict[int, RequestRecord] = {}
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
        record = RequestRecord.of(submit, self.gateway)
        try:
            request = wire.generation_request(self.number, submit, engine.model)
            new_rows = {spec.key.row_id for spec in request.rows}
            self._check_new(new_rows, len(request.rows))
        except RequestError as error:
            self._refuse(submit, record, error)
            return
        output = request.sampling.structured_output
        if output is None:
            self._hand_over(submit, request, record, engine)
            return
        preparation = _Preparation(submit, request, record)
        self._preparing |= dict.fromkeys(new_rows, preparation)
        preparation.task = asyncio.create_task(self._prepare(preparation, output, engine))

    def _check_new(self, row_ids: set[int], count: int) -> None:
        taken = self._rows.keys() | self._preparing.keys()
        if len(row_ids) != count or row_ids & taken:
            message = "rows.row_id: each row of a session needs an id of its own"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, message, "rows.row_id")

    async def _prepare(
        self, preparation: _Preparation, output: StructuredOutput, engine: Engine
    ) -> None:
        """Have the engine compile ``output``; then hand over the rows that are still wanted."""
        submit, request, record = preparation.submit, preparation.request, preparation.record
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
            self._refuse(submit, record, refusal)
        elif rows:
            self._hand_over(submit, replace(request, rows=rows), record, engine)
        self._on_rows()

    def _hand_over(
        self, submit: pb.Submit, request: GenerationRequest, record: RequestRecord, engine: Engine
    ) -> None:
        record.queue()
        try:
            engine.submit(request)
        except Exception as error:  # noqa: BLE001 (only this request fails: the session has others)
            self._refuse(submit, record, error)
            return
        self._rows.update((spec.key.row_id, record) for spec in request.rows)
        self.answer(submit, None)

    def _refuse(self, submit: pb.Submit, record: RequestRecord, error: Exception) -> None:
        if isinstance(error, RequestError):
            log.info("request %s refused: %s", submit.request_id, error.message)
        else:
            log.error("request %s could not be submitted", submit.request_id, exc_info=error)
            message = "The worker could not take this request."
            error = RequestError(ErrorCode.INTERNAL, message)
        self.answer(submit, error)
        record.refuse(error)
        self._on_end(record)

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
        self._drop(set(row_ids), engine, ABORTED)

    def abort_all(self, engine: Engine) -> None:
        """Drop every row: the gateway is gone."""
        self._drop(self._rows.keys() | self._preparing.keys(), engine, SESSION_LOST)

    def _drop(self, row_ids: set[int], engine: Engine, outcome: str) -> None:
        self._stop_preparing(row_ids, outcome)
        gone = self._rows.keys() & row_ids
        engine.abort([RowKey(self.number, row_id) for row_id in gone])
        for row_id in gone:
            self._end_row(self._rows.pop(row_id), row_id, outcome)

    def _stop_preparing(self, row_ids: Iterable[int], outcome: str) -> None:
        touched = set()
        for row_id in row_ids:
            if preparation := self._preparing.pop(row_id, None):
                touched.add(preparation)
                self._end_row(preparation.record, row_id, outcome)
        for preparation in touched.difference(self._preparing.values()):
            preparation.cancel()

    def _end_row(
        self, record: RequestRecord, row_id: int, outcome: str, error: RequestError | None = None
    ) -> None:
        if record.end_row(row_id, outcome, self._steps, error):
            self._on_end(record)

    def fail_all(self, error: RequestError) -> None:
        """End every row with ``error``: the engine is dead."""
        for preparation in set(self._preparing.values()):
            preparation.cancel()
            self.answer(preparation.submit, error)
            preparation.record.refuse(error)
            self._on_end(preparation.record)
        self._preparing.clear()
        finish = RowFinish(FinishReason.ERROR, error=error)
        keys = [RowKey(self.number, row_id) for row_id in sorted(self._rows)]
        self.deliver([RowOutput(key, [], finish=finish) for key in keys], 0)

    def deliver(self, rows: Sequence[RowOutput], batch_size: int) -> None:
        """Queue what one engine step produced for this gateway."""
        live = []
        for row in rows:
            record = self._rows.get(row.key.row_id)
            if record is not None:
                live.append(row)
                record.generated_tokens += len(row.token_ids)
                if row.start:
                    record.begin(row.start, self._steps)
        if not live:
            return
        for frame in frames.step_messages(live, batch_size):
            self.send(frame)
        if batch_size:
            self._steps.add(batch_size)
        for row in live:
            if row.finish:
                record = self._rows.pop(row.key.row_id)
                self._end_row(record, row.key.row_id, row.finish.reason.value, row.finish.error)
