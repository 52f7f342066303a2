"""Which worker serves a request: the workers there are, and the least loaded of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Collection, Iterable

from sluice_gateway.changes import Changes
from sluice_gateway.connection import WorkerConnection
from sluice_gateway.discovery import Discovery
from sluice_gateway.errors import (
    ApiError,
    InvalidRequest,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    Unavailable,
)
from sluice_gateway.loading import CONNECTING, Loading
from sluice_gateway.model import ServedModel
from sluice_gateway.model_fetch import ModelFetcher

log = logging.getLogger(__name__)

_RETRY_SOON = {"Retry-After": "2"}

#: Why a model is not served although nothing is wrong with it and nothing is on its way.
_AWAY = {
    "lost": "has lost its workers; they are being reconnected.",
    "silent": "has workers that may be hung; they are being watched.",
    "draining": "has workers that are shutting down.",
}


class Router:
    """Knows the workers and picks among them. Lives on the event loop's thread."""

    def __init__(self, discovery: Discovery, gateway_name: str, silence_seconds: float) -> None:
        self._discovery = discovery
        self._gateway_name = gateway_name
        self._silence_seconds = silence_seconds
        self._fetcher = ModelFetcher()
        #: Of the workers that there are, and of their states.
        self.changes = Changes()
        self._connections: dict[str, WorkerConnection] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._turn = itertools.count()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Router]:
        """Keeps connections to all workers while entered."""
        discovering = asyncio.create_task(self._discover())
        try:
            yield self
        finally:
            tasks = [discovering, *self._tasks.values(), *self._retiring]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _discover(self) -> None:
        async for addresses in self._discovery.changes():
            for address in addresses - self._connections.keys():
                self._connect(address)
            for address in self._connections.keys() - addresses:
                log.info("worker %s is gone from the addresses", address)
                # A pod that drains leaves the DNS at once; its streams go on.
                self._connections.pop(address).retire()
                self._retiring.add(self._tasks.pop(address))
            self._retiring = {task for task in self._retiring if not task.done()}
            self.changes.notify()

    def _connect(self, address: str) -> None:
        connection = WorkerConnection(
            address,
            self._gateway_name,
            self._silence_seconds,
            self._fetcher,
            self.changes.notify,
        )
        self._connections[address] = connection
        self._tasks[address] = asyncio.create_task(connection.run())

    @property
    def connections(self) -> list[WorkerConnection]:
        """All workers, by address."""
        return [self._connections[address] for address in sorted(self._connections)]

    @property
    def all_heard(self) -> bool:
        """Whether every worker has been heard once, so that all models are known."""
        workers = self.connections
        return bool(workers) and all(worker.status for worker in workers)

    def model_names(self) -> list[str]:
        """The models that workers serve or are about to serve, each once."""
        return sorted({name for worker in self.connections if (name := worker.model_name)})

    def ready_models(self) -> list[ServedModel]:
        """The models that can be served now, each name once.

        Workers of one name may have room for different lengths of context. The smallest is what
        all of them serve, so it is the model's.
        """
        by_name: dict[str, ServedModel] = {}
        for worker in self._ready():
            model = worker.model
            if model and not (
                model.name in by_name and by_name[model.name].max_model_len <= model.max_model_len
            ):
                by_name[model.name] = model
        return [by_name[name] for name in sorted(by_name)]

    def _ready(self) -> Iterable[WorkerConnection]:
        return (worker for worker in self.connections if worker.ready)

    def speaker(self, name: str) -> WorkerConnection | None:
        """The worker that is furthest on and so speaks for the model of that name."""
        workers = [worker for worker in self.connections if worker.model_name == name]
        return max(workers, key=lambda worker: worker.loading.progress, default=None)

    def loading(self, name: str | None) -> Loading:
        """How far the model of that name is, or the only one there is."""
        names = self.model_names() if name is None else [name]
        worker = self.speaker(names[0]) if len(names) == 1 else None
        return worker.loading if worker else CONNECTING

    def model(self, name: str | None) -> ServedModel:
        """The model of that name, or the only one there is.

        Raises ModelLoading while it is on its way, ModelFailed when it will not come, Unavailable
        while its workers are away, ModelNotFound, and InvalidRequest when ``name`` is None and
        several models are served.
        """
        name = self._only_name() if name is None else name
        for model in self.ready_models():
            if model.name == name:
                return model
        raise self.why_not(name)

    def _only_name(self) -> str:
        names = self.model_names()
        if len(names) == 1:
            return names[0]
        if not names:
            raise ModelLoading(None, CONNECTING)
        raise InvalidRequest(
            f"Several models are served: name one of {', '.join(names)}.",
            param="model",
            code="missing_required_parameter",
        )

    def why_not(self, name: str) -> ModelNotFound | Unavailable:
        """Why the model of that name cannot be served now."""
        worker = self.speaker(name)
        if worker is not None:
            return _not_ready(name, worker)
        known = ", ".join(self.model_names())
        if not known:
            return ModelLoading(name, CONNECTING)
        return ModelNotFound(
            f"The model `{name}` does not exist. Models served: {known}.", param="model"
        )

    def pick(
        self, model: ServedModel, but_not: Collection[WorkerConnection] = ()
    ) -> WorkerConnection | None:
        """The least loaded worker that can serve ``model``; equals take turns.

        One whose engine may be stuck comes last. None when there is none.
        """
        workers = [worker for worker in self._serving(model) if worker not in but_not]
        if not workers:
            return None
        least = min((worker.in_doubt, worker.load) for worker in workers)
        candidates = [worker for worker in workers if (worker.in_doubt, worker.load) == least]
        return candidates[next(self._turn) % len(candidates)]

    def _serving(self, model: ServedModel) -> list[WorkerConnection]:
        return [
            worker
            for worker in self._ready()
            if worker.model and worker.model.takes_prompts_of(model)
        ]

    def capacity(self, model: ServedModel) -> int:
        """Rows that the workers of ``model`` compute at once."""
        return sum(worker.status.batch_max for worker in self._serving(model) if worker.status)

    def fail_rows(self, failure: ApiError) -> None:
        """End all rows on all workers with ``failure``."""
        for worker in self.connections:
            if worker.session is not None:
                worker.session.fail_rows(failure)


def _not_ready(name: str, worker: WorkerConnection) -> Unavailable:
    loading = worker.loading
    if loading.on_its_way:
        return ModelLoading(name, loading)
    if loading.failed:
        return ModelFailed(name, worker.trouble)
    if away := _AWAY.get(loading.state):
        return Unavailable(f"The model `{name}` {away}", headers=_RETRY_SOON)
    # It is ready: those that were asked refused.
    return Unavailable(f"No worker of `{name}` can take more now.", headers=_RETRY_SOON)
