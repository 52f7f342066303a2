"""One gateway's session: its rows, and the frames that wait to be sent to it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NoReturn

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker import wire
from sluice_worker.engines.base import (
    Engine,
    ErrorCode,
    FinishReason,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
)

log = logging.getLogger(__name__)

#: A gateway always reads. One that lets so many frames pile up does not live.
MAX_FRAMES = 8192


class SessionStuck(Exception):
    """The gateway does not read its session."""


class GatewaySession:
    """Rows of one gateway. Lives on the event loop's thread."""

    def __init__(self, number: int, gateway: str) -> None:
        self.number = number
        self.gateway = gateway
        self._rows: set[int] = set()
        self._frames: deque[pb.SessionResponse] = deque()
        self._wake = asyncio.Event()
        self._stuck = asyncio.Event()

    def __repr__(self) -> str:
        return f"<GatewaySession {self.number} of {self.gateway}: {len(self._rows)} rows>"

    @property
    def row_count(self) -> int:
        """Rows that have not ended."""
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
        """Hand a request to the engine, and queue the Admission that answers it."""
        refusal = None
        try:
            request = wire.generation_request(self.number, submit, engine.model)
            new_rows = {spec.key.row_id for spec in request.rows}
            self._check_new(new_rows, len(request.rows))
            engine.submit(request)
            self._rows |= new_rows
        except RequestError as error:
            log.info("request %s refused: %s", submit.request_id, error.message)
            refusal = error
        except Exception:  # only this request fails: the session has others
            log.exception("request %s could not be submitted", submit.request_id)
            refusal = RequestError(ErrorCode.INTERNAL, "The worker could not take this request.")
        self.answer(submit, refusal)

    def _check_new(self, row_ids: set[int], count: int) -> None:
        if len(row_ids) != count or row_ids & self._rows:
            message = "rows.row_id: each row of a session needs an id of its own"
            raise RequestError(ErrorCode.INVALID_ARGUMENT, message, "rows.row_id")

    def answer(self, submit: pb.Submit, refusal: RequestError | None) -> None:
        """Queue the Admission that answers ``submit``; without a ``refusal`` it is accepted."""
        admission = pb.Admission(
            row_id=submit.rows[0].row_id if submit.rows else 0,
            error=wire.error_message(refusal) if refusal else None,
        )
        self.send(pb.SessionResponse(admission=admission))

    def abort(self, row_ids: Iterable[int], engine: Engine) -> None:
        """Drop rows that the gateway no longer wants."""
        gone = self._rows.intersection(row_ids)
        self._rows -= gone
        engine.abort([RowKey(self.number, row_id) for row_id in gone])

    def abort_all(self, engine: Engine) -> None:
        """Drop every row: the gateway is gone."""
        self.abort(set(self._rows), engine)

    def fail_all(self, error: RequestError) -> None:
        """End every row with ``error``: the engine is dead."""
        finish = RowFinish(FinishReason.ERROR, error=error)
        keys = [RowKey(self.number, row_id) for row_id in sorted(self._rows)]
        self.deliver([RowOutput(key, [], finish=finish) for key in keys], 0)

    def deliver(self, rows: Sequence[RowOutput], batch_size: int) -> None:
        """Queue what one engine step produced for this gateway, as one frame."""
        live = [row for row in rows if row.key.row_id in self._rows]
        if live:
            self.send(wire.step_message(live, batch_size))
            self._rows -= {row.key.row_id for row in live if row.finish}
