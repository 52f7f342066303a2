"""The worker's process: gRPC up first, then the model, then service until SIGTERM."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from sluice_worker import __version__
from sluice_worker.engines import EngineNotAvailable, find_engine
from sluice_worker.engines.base import Engine
from sluice_worker.lifecycle import Condition, Lifecycle, State
from sluice_worker.metrics import WorkerMetrics
from sluice_worker.model_source import ModelNotUsable, find_model, served_name
from sluice_worker.service import LoadedModel, WorkerService
from sluice_worker.settings import Settings
from sluice_worker.tokenizer_bundle import TokenizerBundle, TokenizerMissing, generation_defaults

log = logging.getLogger(__name__)

T = TypeVar("T")


class ToState(Protocol):
    """Goes to a state of the lifecycle, from any thread."""

    def __call__(self, state: State, message: str = "") -> None:
        """Go to ``state``."""


SERVICE_NAME = pb.DESCRIPTOR.services_by_name["WorkerService"].full_name

#: How long a failed worker stays up, so that gateways hear why before it goes.
FAILURE_LINGER_SECONDS = 2.0

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
    """One worker. ``run`` returns the process's exit status."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model_name = served_name(settings)
        self._lifecycle = Lifecycle()
        self._metrics = WorkerMetrics(self._model_name)
        self._service = WorkerService(
            self._model_name, self._lifecycle, self._metrics, batch_max=settings.batch_max
        )
        self._health = health.aio.HealthServicer()
        self._engine: Engine | None = None
        self._failed = asyncio.Event()
        self._started = time.monotonic()
        self._stop = asyncio.Event()
        #: The port that gRPC listens on; None until it does.
        self.port: int | None = None

    def stop(self) -> None:
        """Drain and end: what a signal does."""
        self._stop.set()

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT (0), or until the model fails (1)."""
        self._lifecycle.watch(self._metrics.observe_condition)
        self._lifecycle.watch(self._note_failure)
        self._stop_on_signals()
        metrics_server = self._serve_metrics()
        server = await self._start_grpc()
        tasks = [asyncio.create_task(work) for work in (self._stop.wait(), self._failed.wait())]
        loading = asyncio.create_task(self._load())
        watching = asyncio.create_task(self._watch_engine())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.is_set():
                await asyncio.wait(tasks[:1], timeout=FAILURE_LINGER_SECONDS)
            else:
                await self._drain()
        finally:
            for task in (*tasks, loading, watching):
                task.cancel()
            await server.stop(grace=1.0)
            await self._close_engine()
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

        def to(state: State, message: str = "") -> None:
            loop.call_soon_threadsafe(self._lifecycle.to, state, message)

        try:
            model = await _in_daemon_thread(partial(self._load_model, to))
        except (EngineNotAvailable, ModelNotUsable, TokenizerMissing) as error:
            self._lifecycle.to(pb.WORKER_STATE_FAILED, str(error))
            return
        except Exception as error:  # whatever a model can do wrong ends here, and is told
            log.exception("loading %s failed", self._settings.model_id)
            kind = type(error).__name__
            reason = f"loading {self._model_name} failed ({kind}); the worker's log says more"
            self._lifecycle.to(pb.WORKER_STATE_FAILED, reason)
            return
        self._engine = model.engine
        model.engine.start(
            emit=partial(_from_thread, loop, self._service.deliver),
            fail=partial(_from_thread, loop, self._engine_died),
        )
        self._service.serve(model)
        await self._health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        elapsed = time.monotonic() - self._started
        self._lifecycle.to(pb.WORKER_STATE_READY, f"{self._model_name} after {elapsed:.1f} s")

    def _load_model(self, to: ToState) -> LoadedModel:
        settings = self._settings
        load_engine = find_engine(settings.engine_name)
        model_dir = find_model(settings, lambda: to(pb.WORKER_STATE_DOWNLOADING))
        to(pb.WORKER_STATE_LOADING, str(model_dir.name))
        tokenizer = TokenizerBundle.read(model_dir)

        def progress(stage: str) -> None:
            if stage == "warming":
                to(pb.WORKER_STATE_WARMING)

        engine = load_engine(settings, model_dir, progress)
        return LoadedModel(engine, tokenizer, self._describe(engine, tokenizer, model_dir))

    def _describe(
        self, engine: Engine, tokenizer: TokenizerBundle, model_dir: Path
    ) -> pb.GetModelResponse:
        return pb.GetModelResponse(
            name=self._model_name,
            fingerprint=engine.model.fingerprint,
            max_model_len=engine.model.max_model_len,
            vocab_size=engine.model.vocab_size,
            tokenizer_hash=tokenizer.hash,
            eos_token_ids=engine.model.eos_token_ids,
            defaults=generation_defaults(model_dir),
            created=int(time.time()),
            engine=self._settings.engine_name,
        )

    def _engine_died(self, error: BaseException) -> None:
        log.error("the engine died", exc_info=error)
        self._lifecycle.to(pb.WORKER_STATE_FAILED, "the engine died; the worker's log says why")

    async def _close_engine(self) -> None:
        """Close the engine, unless it is stuck: then the process's end has to do."""
        if self._engine:
            closing = _in_daemon_thread(self._engine.close)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(closing, CLOSE_SECONDS)

    async def _watch_engine(self) -> None:
        """Fail when the engine makes no step for ENGINE_STALL_SECONDS although it has rows."""
        limit = self._settings.engine_stall_seconds
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            if self._service.engine_quiet_seconds >= limit:
                message = f"the engine has made no step for {limit:.0f} s although it has rows"
                self._lifecycle.to(pb.WORKER_STATE_FAILED, message)
                return

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


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread that does not hold up the process's end, as an executor's would."""
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (it is raised where the future is awaited)
            if not future.cancelled():
                future.set_exception(error)
        else:
            if not future.cancelled():
                future.set_result(result)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(future)


def _from_thread(
    loop: asyncio.AbstractEventLoop, callback: Callable[[T], None], argument: T
) -> None:
    """Call on the loop; a loop that is closed already has nobody to tell."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, argument)
