"""The gRPC service: sessions, the model's description and its tokenizer."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import grpc
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from sluice_worker import PROTOCOL_VERSION, __version__
from sluice_worker.engines.base import Engine, ErrorCode, RequestError, RowOutput, StepOutput
from sluice_worker.lifecycle import Condition, Lifecycle, state_name
from sluice_worker.metrics import WorkerMetrics
from sluice_worker.preparing import Preparer
from sluice_worker.request_line import write_line
from sluice_worker.request_record import RequestRecord
from sluice_worker.session import GatewaySession, SessionStuck
from sluice_worker.tokenizer_bundle import TokenizerBundle

if TYPE_CHECKING:  # traces that are off are not even imported
    from sluice_worker.tracing import Tracing

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.5

Context = grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionResponse]
Abort = Callable[[grpc.StatusCode, str], Awaitable[NoReturn]]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready: its engine, its tokenizer, its description."""

    engine: Engine
    tokenizer: TokenizerBundle
    description: pb.GetModelResponse


class WorkerService(worker_pb2_grpc.WorkerServiceServicer):
    """Joins gateways' sessions to the engine. Lives on the event loop's thread."""

    def __init__(
        self,
        model_name: str,
        lifecycle: Lifecycle,
        metrics: WorkerMetrics,
        *,
        batch_max: int,
        adapter_names: Sequence[str] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self._model_name = model_name
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._batch_max = batch_max
        self._adapter_names = adapter_names
        self._tracing = tracing
        self._instance = secrets.token_hex(8)
        self._host_name = socket.gethostname()
        self._numbers = itertools.count(1)
        self._sessions: dict[int, GatewaySession] = {}
        self._model: LoadedModel | None = None
        self._preparer = Preparer()
        self._idle = asyncio.Event()
        self._last_step = time.monotonic()
        self._engine_has_rows = False
        lifecycle.watch(self._tell_all)

    # The model

    def serve(self, model: LoadedModel) -> None:
        """Take requests for ``model`` from now on."""
        self._model = model
        self._metrics.watch_load(model.engine.load)
        self._metrics.expose(model.engine.metrics)

    async def wait_until_idle(self) -> None:
        """Return once no session has a row under way."""
        while self._row_count():
            self._idle.clear()
            await self._idle.wait()

    def _row_count(self) -> int:
        return sum(session.row_count for session in self._sessions.values())

    def deliver(self, step: StepOutput) -> None:
        """Hand each session its rows of an engine step."""
        self._last_step = time.monotonic()
        self._metrics.observe_step(step)
        by_session: defaultdict[int, list[RowOutput]] = defaultdict(list)
        for row in step.rows:
            by_session[row.key.session].append(row)
        for number, rows in by_session.items():
            if session := self._sessions.get(number):
                session.deliver(rows, step.batch_size)
        self._note_rows()

    def fail_rows(self, error: RequestError) -> None:
        """End every row of every gateway with ``error``: the engine is dead."""
        for session in self._sessions.values():
            session.fail_all(error)
        self._note_rows()

    @property
    def engine_quiet_seconds(self) -> float:
        """Seconds since the engine's last step while it has rows, else 0."""
        return time.monotonic() - self._last_step if self._engine_has_rows else 0.0

    def _note_rows(self) -> None:
        """Rows have come or gone."""
        engine_has_rows = any(session.engine_row_count for session in self._sessions.values())
        if engine_has_rows and not self._engine_has_rows:
            self._last_step = time.monotonic()  # the clock of an idle engine starts now
        self._engine_has_rows = engine_has_rows
        if not self._row_count():
            self._idle.set()

    def _note_end(self, record: RequestRecord) -> None:
        """A request has ended, or was refused."""
        write_line(record)
        if self._tracing:
            self._tracing.show(record)

    # Status

    def _tell_all(self, condition: Condition) -> None:
        for session in self._sessions.values():
            session.send(pb.SessionResponse(status=self._status(condition)))

    def _status(self, condition: Condition) -> pb.Status:
        progress = condition.progress
        status = pb.Status(
            state=condition.state,
            message=condition.message,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
            bytes_per_second=progress.bytes_per_second,
            eta_seconds=progress.eta_seconds,
            file=progress.file,
            batch_max=self._batch_max,
            heartbeat_ms=int(HEARTBEAT_SECONDS * 1000),
            model_name=self._model_name,
            adapter_names=self._adapter_names,
        )
        if self._model:
            load = self._model.engine.load()
            status.rows_running = load.rows_running
            status.rows_waiting = load.rows_waiting
            status.kv_cache_usage = load.kv_cache_usage
            status.prefix_cache_queries = load.prefix_cache_queries
            status.prefix_cache_hits = load.prefix_cache_hits
            status.engine_quiet_ms = int(self.engine_quiet_seconds * 1000)
        return status

    async def _beat(self, session: GatewaySession) -> None:
        while True:
            session.send(pb.SessionResponse(status=self._status(self._lifecycle.condition)))
            await asyncio.sleep(HEARTBEAT_SECONDS)

    # Sessions

    async def Session(  # type: ignore[override]  # noqa: N802 (the contract's name)
        self, request_iterator: AsyncIterator[pb.SessionRequest], context: Context
    ) -> None:
        """One gateway's stream, from its Hello until either side ends it."""
        session = await self._welcome(context)
        self._sessions[session.number] = session
        tasks = (
            asyncio.create_task(self._read(session, context)),
            asyncio.create_task(self._write(session, context)),
            asyncio.create_task(self._beat(session)),
            asyncio.create_task(session.wait_stuck()),
        )
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except SessionStuck as stuck:
            log.warning("%s", stuck)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the session was not read")
        finally:
            for task in tasks:
                task.cancel()
            self._end(session)
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _welcome(self, context: Context) -> GatewaySession:
        first = await context.read()
        if not isinstance(first, pb.SessionRequest) or not first.HasField("hello"):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a session begins with Hello")
        theirs = first.hello.protocol_version
        if theirs != PROTOCOL_VERSION:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the gateway speaks version {theirs} of the worker protocol and this worker "
                f"speaks version {PROTOCOL_VERSION}; run the same release of both",
            )
        welcome = pb.Welcome(
            protocol_version=PROTOCOL_VERSION,
            instance=self._instance,
            software_version=__version__,
            host_name=self._host_name,
        )
        await context.write(pb.SessionResponse(welcome=welcome))
        session = GatewaySession(
            next(self._numbers),
            first.hello.gateway,
            self._preparer,
            on_rows=self._note_rows,
            on_end=self._note_end,
        )
        log.info("session %d opened by %s", session.number, session.gateway)
        return session

    async def _read(self, session: GatewaySession, context: Context) -> None:
        while isinstance(request := await context.read(), pb.SessionRequest):
            if request.HasField("submit"):
                self._submit(session, request.submit)
            elif request.HasField("abort") and self._model:
                session.abort(request.abort.row_ids, self._model.engine)
                self._note_rows()

    def _submit(self, session: GatewaySession, submit: pb.Submit) -> None:
        state = self._lifecycle.condition.state
        if self._model is None or state != pb.WORKER_STATE_READY:
            message = f"The worker is {state_name(state)}."
            session.answer(submit, RequestError(ErrorCode.UNAVAILABLE, message))
            return
        session.submit(submit, self._model.engine)
        self._note_rows()

    async def _write(self, session: GatewaySession, context: Context) -> None:
        async for frame in session.frames():
            await context.write(frame)

    def _end(self, session: GatewaySession) -> None:
        del self._sessions[session.number]
        if self._model:
            session.abort_all(self._model.engine)
        self._note_rows()
        log.info("session %d ended", session.number)

    # The model's description

    async def GetModel(  # noqa: N802
        self,
        request: pb.GetModelRequest,
        context: grpc.aio.ServicerContext[pb.GetModelRequest, pb.GetModelResponse],
    ) -> pb.GetModelResponse:
        """The model's description. UNAVAILABLE until it is ready."""
        return (await self._ready_model(context.abort)).description

    async def GetTokenizer(  # noqa: N802
        self,
        request: pb.GetTokenizerRequest,
        context: grpc.aio.ServicerContext[pb.GetTokenizerRequest, pb.GetTokenizerResponse],
    ) -> AsyncIterator[pb.GetTokenizerResponse]:
        """The tokenizer's files, in pieces. NOT_FOUND for another tokenizer's hash."""
        tokenizer = (await self._ready_model(context.abort)).tokenizer
        if request.tokenizer_hash != tokenizer.hash:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, "this worker has another tokenizer; ask GetModel again"
            )
        for piece in tokenizer.pieces():
            yield piece

    async def _ready_model(self, abort: Abort) -> LoadedModel:
        if self._model is None:
            state = state_name(self._lifecycle.condition.state)
            await abort(grpc.StatusCode.UNAVAILABLE, f"the model is {state}")
            raise AssertionError("abort raises")
        return self._model
