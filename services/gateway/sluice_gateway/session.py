"""One live session with one worker. When it breaks it is over; the connection opens another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import grpc
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from sluice_gateway import PROTOCOL_VERSION
from sluice_gateway.errors import ApiError, WorkerLost
from sluice_gateway.failures import error_for_client
from sluice_gateway.fast_path import deliver
from sluice_gateway.generation import Generation, Row, Signal
from sluice_gateway.prompt_scores import unpacked
from sluice_gateway.step_count import MeanBatch, StepCount

log = logging.getLogger(__name__)


_Call = grpc.aio.StreamStreamCall[pb.SessionRequest, pb.SessionResponse]


class SessionBroken(Exception):
    """The session ended; the message says why."""


class WorkerSession:
    """Rows of this gateway on one worker. Lives on the event loop's thread."""

    def __init__(self, gateway_name: str, silence_seconds: float) -> None:
        self._gateway_name = gateway_name
        self._silence_seconds = silence_seconds
        self._outgoing: asyncio.Queue[pb.SessionRequest] = asyncio.Queue()
        self._row_ids = itertools.count(1)
        self._rows: dict[int, Row] = {}
        self._last_heard = time.monotonic()
        #: False from the moment that it broke: its rows are told then, and look for another.
        self.is_open = True
        self._call: _Call | None = None
        self._end_reason = ""
        self._steps = StepCount()
        self.software_version = ""
        #: How logs, traces and timings call the worker; empty before its Welcome.
        self.host_name = ""

    @property
    def row_count(self) -> int:
        """Rows of this gateway under way on the worker."""
        return len(self._rows)

    @property
    def silent_for(self) -> float:
        """Seconds since the worker was last heard."""
        return time.monotonic() - self._last_heard

    async def run(
        self,
        stub: worker_pb2_grpc.WorkerServiceAsyncStub,
        on_status: Callable[[pb.Status], None],
    ) -> None:
        """Open the session and read it until it breaks. Always raises SessionBroken."""
        call = self._call = stub.Session(wait_for_ready=False)
        watchdog = asyncio.create_task(self._watch_silence())
        writer = asyncio.create_task(self._write(call))
        reason = "the worker closed the session"
        try:
            while isinstance(frame := await call.read(), pb.SessionResponse):
                self._last_heard = time.monotonic()
                self._on_frame(frame, on_status)
        except grpc.aio.AioRpcError as error:
            reason = error.details() or str(error.code())
        except asyncio.CancelledError:
            if not self._end_reason:
                raise
            reason = self._end_reason
        except Exception:
            # Another release of the worker may say what this one does not understand. It must
            # cost a session, not the connection.
            log.exception("a frame could not be read")
            reason = "the worker sent what this gateway does not understand; see the log"
        finally:
            call.cancel()
            self._close()
            for task in (watchdog, writer):
                task.cancel()
            await asyncio.gather(watchdog, writer, return_exceptions=True)
        raise SessionBroken(reason)

    async def _write(self, call: _Call) -> None:
        """Send what is queued; a call that has broken is the reader's to tell of."""
        hello = pb.Hello(protocol_version=PROTOCOL_VERSION, gateway=self._gateway_name)
        await call.write(pb.SessionRequest(hello=hello))
        while True:
            await call.write(await self._outgoing.get())

    async def _watch_silence(self) -> None:
        left = self._silence_seconds
        while left > 0:
            await asyncio.sleep(left)
            left = self._silence_seconds - self.silent_for
        self.end(f"the worker said nothing for {self._silence_seconds} s")

    def end(self, reason: str) -> None:
        """Break the session from this side."""
        self._end_reason = reason
        if self._call is not None:
            self._call.cancel()

    def _close(self) -> None:
        self.is_open = False
        self.fail_rows(WorkerLost())

    def fail_rows(self, failure: ApiError) -> None:
        """End all rows with ``failure``, and abort them on the worker if it is still there."""
        generations = dict.fromkeys(row.generation for row in self._rows.values())
        for generation in generations:
            self._lose(generation, failure)

    def _lose(self, generation: Generation, failure: ApiError) -> None:
        """End a generation here. Its late tokens are dropped: no row has their ids any more."""
        self.abort([key for key, row in self._rows.items() if row.generation is generation])
        generation.fail(failure)

    # What goes out

    def submit(self, generation: Generation) -> list[int]:
        """Ask the worker for the generation's rows that are left; their ids on this session."""
        if not self.is_open:
            raise WorkerLost
        submit = pb.Submit(
            prompt_ids=generation.prompt_ids,
            sampling=generation.sampling_left,
            request_id=generation.request_id,
            adapter=generation.adapter,
            priority=generation.priority,
            traceparent=generation.traceparent,
            tracestate=generation.tracestate,
        )
        row_ids = []
        for row in generation.rows_left:
            row_id = next(self._row_ids)
            submit.rows.add(row_id=row_id, seed=row.seed, generated_ids=row.ids)
            self._rows[row_id] = row
            row.on_abort = partial(self.abort, (row_id,))
            row_ids.append(row_id)
        generation.submitted()
        self._outgoing.put_nowait(pb.SessionRequest(submit=submit))
        return row_ids

    def abort(self, row_ids: Iterable[int]) -> None:
        """End rows that nobody wants any more; those that have ended are passed over."""
        live = [row_id for row_id in row_ids if self._rows.pop(row_id, None) is not None]
        if live and self.is_open:
            self._outgoing.put_nowait(pb.SessionRequest(abort=pb.Abort(row_ids=live)))

    # What comes in

    def _on_frame(self, frame: pb.SessionResponse, on_status: Callable[[pb.Status], None]) -> None:
        kind = frame.WhichOneof("message")
        if kind == "step":
            self._on_step(frame.step)
        elif kind == "admission":
            self._on_admission(frame.admission)
        elif kind == "status":
            on_status(frame.status)
        elif kind == "welcome":
            self.software_version = frame.welcome.software_version
            self.host_name = frame.welcome.host_name

    def _on_admission(self, admission: pb.Admission) -> None:
        row = self._rows.get(admission.row_id)
        if row is None:
            return
        generation = row.generation
        if admission.HasField("error"):
            mine = [key for key, other in self._rows.items() if other.generation is generation]
            for row_id in mine:
                del self._rows[row_id]
            generation.fail(error_for_client(admission.error))
        else:
            generation.admit()

    def _on_step(self, step: pb.Step) -> None:
        """Hand each row what the step brought: the hot path, once per engine step.

        Listeners are called when all rows have theirs: the rows of a request share one, and it
        looks at all of them. What they send is sent when all have it ready.
        """
        rows = self._rows
        news: dict[Signal, None] = {}
        self._steps.add(step.batch_size)
        if step.starts or step.logprobs or step.finishes:
            self._take_details(step, news)
        for piece in step.prompt_logprobs:
            self._take_of_prompt(piece, news)
        if step.token_counts:
            self._take_runs(step, news)
        else:
            now = time.perf_counter()
            for row in deliver(rows, step.row_ids, step.token_ids, now):
                news[row.signal] = None
        lost: dict[Generation, str] = {}
        for finish in step.finishes:
            ended = rows.pop(finish.row_id, None)
            if ended is not None and ended.finish is None:
                lost[ended.generation] = finish.error.message
        for signal in news:
            signal.gather()
        for signal in news:
            signal.send()
        for generation, message in lost.items():
            self._lose(generation, WorkerLost(message))

    def _take_details(self, step: pb.Step, news: dict[Signal, None]) -> None:
        for start in step.starts:
            if row := self._rows.get(start.row_id):
                row.begin(start, MeanBatch(self._steps, step.batch_size))
        for positions in step.logprobs:
            if row := self._rows.get(positions.row_id):
                row.logprobs += unpacked(positions)
        for finish in step.finishes:
            # An engine that died under a row ends it so. It may go on elsewhere.
            if finish.error.code == pb.ERROR_CODE_UNAVAILABLE:
                continue
            if row := self._rows.get(finish.row_id):
                row.end(finish)
                news[row.signal] = None

    def _take_of_prompt(self, piece: pb.PromptLogprobs, news: dict[Signal, None]) -> None:
        row = self._rows.get(piece.row_id)
        scores = row.generation.prompt_scores if row is not None else None
        if row is not None and scores is not None:
            scores.add(piece)
            news[row.signal] = None

    def _take_runs(self, step: pb.Step, news: dict[Signal, None]) -> None:
        token_ids = list(step.token_ids)
        start = 0
        for row_id, count in zip(step.row_ids, step.token_counts, strict=True):
            row = self._rows.get(row_id)
            if row is not None:
                row.ids += token_ids[start : start + count]
                news[row.signal] = None
            start += count


@contextlib.contextmanager
def rows_on(session: WorkerSession | None, generation: Generation) -> Iterator[None]:
    """Submit ``generation``; on leaving, abort what is left of it. Raises Unavailable."""
    if session is None:
        raise WorkerLost
    row_ids = session.submit(generation)
    try:
        yield
    finally:
        session.abort(row_ids)
