"""The worker's process: gRPC up first, then the model, then service until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
from functools import partial
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from sluice_worker import __version__
from sluice_worker.engines.base import Engine, ErrorCode, RequestError
from sluice_worker.lifecycle import Condition, Lifecycle
from sluice_worker.lifecycle_log import LifecycleLog
from sluice_worker.load_watch import LoadWatch
from sluice_worker.loader import Loader, LoadFailed
from sluice_worker.metrics import WorkerMetrics
from sluice_worker.service import WorkerService
from sluice_worker.settings import Settings
from sluice_worker.threads import from_thread, in_daemon_thread
from sluice_worker.trace_settings import TraceSettings
from sluice_worker.weights.source import served_name

if TYPE_CHECKING:
    from sluice_worker.tracing import Tracing

log = logging.getLogger(__name__)

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["WorkerService"].full_name

#: How long a failed worker stays up, so that gateways hear why before it goes. Longer than the
#: longest pause between two tries of a gateway to reach it.
FAILURE_LINGER_SECONDS = 4.5

#: How long a download that is called off may take to leave its lease.
STOP_LOADING_SECONDS = 2.0

#: How long the step under way may take when the process ends.
CLOSE_SECONDS = 10.0

_GRPC_OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second worker on the port must fail, not take half the calls
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_permit_without_calls", 1),
    # A gateway whose machine died says nothing: without pings its rows would run to their end.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
)


class AddressInUse(Exception):
    """A port cannot be bound; the message names the setting."""


class WorkerServer:
    """One worker. ``run`` returns the process's exit status. No ``traces``: they are off."""

    def __init__(self, settings: Settings, traces: TraceSettings | None = None) -> None:
        self._settings = settings
        self._model_name = served_name(settings)
        self._lifecycle = Lifecycle()
        self._log = LifecycleLog(self._model_name)
        # A follower waits for its leader, whose own watch this is.
        self._load_watch = LoadWatch(
            math.inf if settings.node_rank else settings.load_stall_seconds
        )
        self._loader = Loader(settings, self._model_name, self._lifecycle)
        self._metrics = WorkerMetrics(self._model_name)
        self._tracing = _tracing(traces, self._model_name)
        self._service = WorkerService(
            self._model_name,
            self._lifecycle,
            self._metrics,
            batch_max=settings.batch_max,
            adapter_names=settings.adapter_names,
            tracing=self._tracing,
        )
        self._health = health.aio.HealthServicer()
        self._engine: Engine | None = None
        self._failed = asyncio.Event()
        self._stop = asyncio.Event()
        #: The port that gRPC listens on; None until it does.
        self.port: int | None = None

    def stop(self) -> None:
        """Drain and end: what a signal does."""
        self._stop.set()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT (0), or until the model fails (1)."""
        self._lifecycle.watch(self._log.observe)
        self._lifecycle.watch(self._metrics.observe_condition)
        self._lifecycle.watch(self._load_watch.observe)
        self._lifecycle.watch(self._note_failure)
        self._stop_on_signals()
        metrics_server = self._serve_metrics()
        server = await self._start_grpc()
        tasks = [asyncio.create_task(work) for work in (self._stop.wait(), self._failed.wait())]
        loading = asyncio.create_task(self._load())
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.is_set():
                await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.NOT_SERVING)
                await asyncio.wait(tasks[:1], timeout=FAILURE_LINGER_SECONDS)
            else:
                await self._drain()
        finally:
            for task in (*tasks, loading, watching):
                task.cancel()
            await server.stop(grace=1.0)
            await asyncio.to_thread(self._loader.stop, STOP_LOADING_SECONDS)
            await asyncio.gather(self._close_engine(), self._close_tracing())
            metrics_server.shutdown()
            metrics_server.server_close()
        return 1 if self._failed.is_set() else 0

    def _stop_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)

    def _serve_metrics(self) -> WSGIServer:
        try:
            server, port = self._metrics.serve(self._settings.metrics_address)
        except OSError as error:
            address = self._settings.metrics_address
            raise AddressInUse(f"METRICS_ADDRESS={address}: {error.strerror}") from error
        log.info("metrics on port %d", port)
        return server

    async def _start_grpc(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=_GRPC_OPTIONS)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.NOT_SERVING)
        address = self._settings.worker_address
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise AddressInUse(f"WORKER_ADDRESS={address}: cannot be bound") from error
        await server.start()
        log.info("sluice worker %s: gRPC on port %d", __version__, self.port)
        return server

    async def _load(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            model = await self._loader.load()
        except LoadFailed as failure:
            self._lifecycle.to(pb.WORKER_STATE_FAILED, str(failure))
            return
        self._engine = model.engine
        try:
            model.engine.start(
                emit=partial(from_thread, loop, self._service.deliver),
                fail=partial(from_thread, loop, self._engine_died),
            )
        except RuntimeError as error:  # there may be no thread left for it
            self._engine_died(error)
            return
        self._service.serve(model)
        await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        self._lifecycle.to(pb.WORKER_STATE_READY)

    def _engine_died(self, error: BaseException) -> None:
        log.error("the engine died", exc_info=error)
        self._fail_rows()
        self._lifecycle.to(pb.WORKER_STATE_FAILED, "the engine died; the worker's log says why")

    def _fail_rows(self) -> None:
        message = "The engine of this model died; the worker is starting again."
        self._service.fail_rows(RequestError(ErrorCode.UNAVAILABLE, message))

    async def _close_engine(self) -> None:
        """Close the engine, unless it is stuck: then the process's end has to do."""
        if self._engine:
            closing = in_daemon_thread(self._engine.close)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(closing, CLOSE_SECONDS)

    async def _close_tracing(self) -> None:
        if self._tracing:
            await self._tracing.close()

    async def _watch(self) -> None:
        """Fail when a load stands still, or an engine that has rows: nobody else would notice."""
        limits = (self._settings.load_stall_seconds, self._settings.engine_stall_seconds)
        while True:
            await asyncio.sleep(min(1.0, *(limit / 4 for limit in limits)))
            if reason := self._load_watch.reason or self._engine_stall:
                self._fail_rows()
                self._lifecycle.to(pb.WORKER_STATE_FAILED, reason)
                return

    @property
    def _engine_stall(self) -> str | None:
        """Why the engine has failed, if it has rows and makes no step; else None."""
        limit = self._settings.engine_stall_seconds
        if self._service.engine_quiet_seconds < limit:
            return None
        return f"the engine has made no step for {limit:.0f} s although it has rows"

    def _note_failure(self, condition: Condition) -> None:
        if condition.state == pb.WORKER_STATE_FAILED:
            self._failed.set()

    async def _drain(self) -> None:
        await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._lifecycle.to(pb.WORKER_STATE_DRAINING, "running rows are finished")
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._service.wait_until_idle()
        except TimeoutError:
            log.warning("rows were still running after DRAIN_SECONDS")


def _tracing(settings: TraceSettings | None, model_name: str) -> Tracing | None:
    """None where traces are off: then nothing of OpenTelemetry is loaded."""
    if settings is None or not settings.exporters:
        return None
    from sluice_worker.tracing import Tracing

    return Tracing(settings, model_name)
