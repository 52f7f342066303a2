"""The parts of one gateway, built once and handed down; there are no globals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastapi import Request

from sluice_gateway.admission import Admission
from sluice_gateway.discovery import Discovery
from sluice_gateway.keys import ApiKeys
from sluice_gateway.metrics import UNKNOWN_MODEL, GatewayMetrics
from sluice_gateway.model_fetch import ModelFetcher
from sluice_gateway.routing import Router
from sluice_gateway.settings import Settings, TraceSettings, split_list

if TYPE_CHECKING:
    from sluice_gateway.tracing import Tracing


class Slots(asyncio.Semaphore):
    """A semaphore that knows how many wait for it."""

    waiting = 0

    async def acquire(self) -> Literal[True]:
        """Take a slot, in the order of asking."""
        self.waiting += 1
        try:
            return await super().acquire()
        finally:
            self.waiting -= 1


@dataclass(slots=True)
class Gateway:
    """What the routes work with."""

    settings: Settings
    router: Router
    admission: Admission
    keys: ApiKeys
    metrics: GatewayMetrics
    prompt_threads: ThreadPoolExecutor
    prompt_slots: Slots
    tracing: Tracing | None

    @classmethod
    def build(cls, settings: Settings, traces: TraceSettings | None = None) -> Gateway:
        """All parts, not yet running. No ``traces``: they are off."""
        targets = split_list(settings.worker_addresses)
        discovery = Discovery(targets, settings.dns_refresh_seconds)
        fetcher = ModelFetcher(settings.tool_format, settings.reasoning_format)
        name = socket.gethostname()
        router = Router(discovery, name, settings.worker_silence_seconds, fetcher)
        metrics = GatewayMetrics()
        metrics.watch_workers(lambda: _count_workers(router))
        return cls(
            settings=settings,
            router=router,
            admission=Admission(settings.queue_max, router.changes.notify),
            keys=ApiKeys(settings.api_keys_file),
            metrics=metrics,
            prompt_threads=ThreadPoolExecutor(settings.prompt_threads, "prompt"),
            prompt_slots=Slots(settings.prompt_threads),
            tracing=_tracing(traces),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connected to the workers while entered."""
        try:
            async with self.router.running():
                yield
        finally:
            self.prompt_threads.shutdown(wait=False, cancel_futures=True)
            if self.tracing is not None:
                await self.tracing.close()


def _tracing(settings: TraceSettings | None) -> Tracing | None:
    """None where traces are off: then nothing of OpenTelemetry is loaded."""
    if settings is None or not settings.exporters:
        return None
    from sluice_gateway.tracing import Tracing

    return Tracing(settings)


def _count_workers(router: Router) -> dict[tuple[str, str], int]:
    served = Counter(
        (name, worker.state) for name in router.model_names() for worker in router.workers_of(name)
    )
    return served + Counter(
        (UNKNOWN_MODEL, worker.state) for worker in router.connections if not worker.offers
    )


def gateway_of(request: Request) -> Gateway:
    """The gateway that serves this request."""
    gateway = request.app.state.gateway
    assert isinstance(gateway, Gateway)
    return gateway
