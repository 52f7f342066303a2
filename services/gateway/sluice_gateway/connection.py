"""The gateway's standing connection to one worker address: opens sessions, again and again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping

import grpc
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from sluice_gateway.loading import Loading
from sluice_gateway.model_fetch import ModelFetcher, Models, ModelUnusable
from sluice_gateway.session import SessionBroken, WorkerSession

log = logging.getLogger(__name__)

#: Four heartbeats. A worker that has been silent for so long gets no new work; it may be hung.
DOUBT_SECONDS = 2.0

FIRST_RETRY_SECONDS = 0.2
#: A worker that failed stays up for longer than this and its random part.
LAST_RETRY_SECONDS = 3.0

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    # A channel per address and session: sharing one TCP connection between two gateways in one
    # process would let one's trouble be the other's.
    ("grpc.use_local_subchannel_pool", 1),
    # A worker is a neighbour: an HTTP proxy in the environment is for the world outside.
    ("grpc.enable_http_proxy", 0),
    # The connection's own back-off below decides when to try again, not the channel's.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


_STATE_NAMES = {
    state: name.removeprefix("WORKER_STATE_").lower() for name, state in pb.WorkerState.items()
}


def state_name(state: pb.WorkerState.ValueType) -> str:
    """``WORKER_STATE_READY`` as ``ready``; a state of a newer release by its number."""
    return _STATE_NAMES.get(state) or f"state {state}"


class WorkerConnection:
    """One worker address, its present session and what is known of the worker.

    ``on_change`` is called when its state may be another, but not when it falls silent: that is
    only seen by looking.
    """

    def __init__(
        self,
        address: str,
        gateway_name: str,
        silence_seconds: float,
        fetcher: ModelFetcher,
        on_change: Callable[[], None],
    ) -> None:
        self.address = address
        self.session: WorkerSession | None = None
        self.status: pb.Status | None = None
        #: What it serves, by name; empty before its tokenizer is there.
        self.models: Models = {}
        #: The names under which it serves or is about to, each with the model whose adapter it is:
        #: none for its model itself.
        self.offers: Mapping[str, str] = {}
        self.retiring = False
        self._trouble = ""
        self._model_trouble = ""
        self._gateway_name = gateway_name
        self._silence_seconds = silence_seconds
        self._fetcher = fetcher
        self._on_change = on_change
        self._fetching: asyncio.Task[None] | None = None
        self._heard_at: float | None = None

    def __repr__(self) -> str:
        return f"<WorkerConnection {self.address}: {self.state}>"

    @property
    def name(self) -> str:
        """How logs, traces and timings call it: its host's name, or its address."""
        return (self.session.host_name if self.session else "") or self.address

    @property
    def state(self) -> str:
        """As the worker tells it, or what the gateway knows better.

        That is ``connecting``, ``lost``, ``silent`` (ready, but it may be hung), ``preparing``
        (its tokenizer is being fetched) or ``unusable`` (its tokenizer cannot be loaded here).
        """
        if self.status is None:
            return "connecting"
        if self.session is None or not self.session.is_open:
            # A worker that failed goes down; why it did is what matters.
            return "failed" if self.status.state == pb.WORKER_STATE_FAILED else "lost"
        if self.status.state != pb.WORKER_STATE_READY:
            return state_name(self.status.state)
        if self.session.silent_for > DOUBT_SECONDS:
            return "silent"
        if not self.models:
            return "unusable" if self._model_trouble else "preparing"
        return "ready"

    @property
    def ready(self) -> bool:
        """Whether requests can go to it now."""
        return bool(self.models) and self.state == "ready" and not self.retiring

    @property
    def loading(self) -> Loading:
        """Its state, with the numbers when it is on its way."""
        return Loading.of(self.state, self.status)

    @property
    def trouble(self) -> str:
        """What is wrong with it, for the operator; empty when nothing is."""
        return self._model_trouble or self._trouble

    @property
    def in_doubt(self) -> bool:
        """Whether its engine has made no step for long although it has rows: it may be stuck."""
        return self.status is not None and self.status.engine_quiet_ms > DOUBT_SECONDS * 1000

    @property
    def model_name(self) -> str | None:
        """The model that it serves or is about to serve; None before it was ever heard."""
        return self.status.model_name if self.status else None

    @property
    def load(self) -> int:
        """Rows that it has to do: those of this gateway, or those it tells of if more."""
        if self.session is None or self.status is None:
            return 0
        return max(self.session.row_count, self.status.rows_running + self.status.rows_waiting)

    @property
    def silent_for(self) -> float | None:
        """Seconds since it was last heard; None if it never was."""
        if self.session is not None:
            return self.session.silent_for
        return None if self._heard_at is None else time.monotonic() - self._heard_at

    async def run(self) -> None:
        """Keep a session open until cancelled, or until retired and without rows."""
        delay = FIRST_RETRY_SECONDS
        while not self.retiring:
            began = time.monotonic()
            await self._one_session()
            if self.retiring:
                return
            if time.monotonic() - began > LAST_RETRY_SECONDS:
                delay = FIRST_RETRY_SECONDS
            await asyncio.sleep(delay * random.uniform(0.7, 1.3))
            delay = min(delay * 1.6, LAST_RETRY_SECONDS)

    def retire(self) -> None:
        """Take no new rows; end when those under way have ended."""
        self.retiring = True
        self._end_if_retired()

    def _end_if_retired(self) -> None:
        if self.retiring and self.session is not None and not self.session.row_count:
            self.session.end("the address is no longer one of a worker")

    async def _one_session(self) -> None:
        session = WorkerSession(self._gateway_name, self._silence_seconds)
        async with grpc.aio.insecure_channel(self.address, options=_CHANNEL_OPTIONS) as channel:
            stub = worker_pb2_grpc.WorkerServiceStub(channel)

            def on_status(status: pb.Status) -> None:
                self.session = session
                self._on_status(stub, status)

            try:
                await session.run(stub, on_status)
            except SessionBroken as broken:
                if self.state != "failed":
                    self._note_trouble(str(broken))
            finally:
                await self._forget_session()

    def _on_status(self, stub: worker_pb2_grpc.WorkerServiceAsyncStub, status: pb.Status) -> None:
        before = self.state
        self.status = status
        self._trouble = status.message if status.state == pb.WORKER_STATE_FAILED else ""
        self._heard_at = time.monotonic()
        self._note_offers()
        if self.state == "preparing" and self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_model(stub))
        self._end_if_retired()
        if self.state != before:
            log.info("worker %s: %s %s", self.address, self.state, status.message)
            self._on_change()

    async def _fetch_model(self, stub: worker_pb2_grpc.WorkerServiceAsyncStub) -> None:
        try:
            self.models = await self._fetcher.fetch(stub)
            self._note_offers()
            log.info("worker %s: serves %s", self.address, ", ".join(self.models))
            self._on_change()
        except grpc.aio.AioRpcError as error:
            self._note_trouble(error.details() or str(error.code()))
            await asyncio.sleep(FIRST_RETRY_SECONDS)
            self._fetching = None  # the next status tries again
        except ModelUnusable as error:
            log.error("worker %s: %s", self.address, error)  # noqa: TRY400 (it says all)
            self._model_trouble = str(error)
            self._on_change()

    def _note_offers(self) -> None:
        """From what it serves or, before that is known, from what it says that it will serve."""
        if self.models:
            self.offers = {name: model.info.parent for name, model in self.models.items()}
        elif self.status and (own := self.status.model_name):
            self.offers = {own: "", **{n: own for n in self.status.adapter_names if n != own}}

    def _note_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("worker %s: %s", self.address, trouble)
        self._trouble = trouble

    async def _forget_session(self) -> None:
        self.session = None
        self.models = {}
        self._model_trouble = ""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
            self._fetching = None
        self._on_change()
