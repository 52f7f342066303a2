"""Which worker serves a request: the workers there are, and the least loaded of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Collection

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

    def __init__(
        self,
        discovery: Discovery,
        gateway_name: str,
        silence_seconds: float,
        fetcher: ModelFetcher | None = None,
    ) -> None:
        self._discovery = discovery
        self._gateway_name = gateway_name
        self._silence_seconds = silence_seconds
        self._fetcher = fetcher or ModelFetcher()
        #: Of the workers that there are, and of their states.
        self.changes = Changes()
        self._connections: dict[str, WorkerConnection] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._turn = itertools.count()
        self._ambiguous: dict[str, set[str]] = {}

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
            self._on_change()

    def _connect(self, address: str) -> None:
        connection = WorkerConnection(
            address,
            self._gateway_name,
            self._silence_seconds,
            self._fetcher,
            self._on_change,
        )
        self._connections[address] = connection
        self._tasks[address] = asyncio.create_task(connection.run())

    def _on_change(self) -> None:
        self._warn_of_ambiguous_names()
        self.changes.notify()

    def _warn_of_ambiguous_names(self) -> None:
        meanings: defaultdict[str, set[str]] = defaultdict(set)
        for worker in self.connections:
            for name, parent in worker.offers.items():
                meanings[name].add(parent)
        ambiguous = {name: parents for name, parents in meanings.items() if len(parents) > 1}
        for name, parents in ambiguous.items():
            if parents != self._ambiguous.get(name):
                told = [f"an adapter of {each}" if each else "a model" for each in sorted(parents)]
                log.warning(
                    "%s is the name of %s: requests get the first only; rename the others",
                    name,
                    " and of ".join(told),
                )
        self._ambiguous = ambiguous

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
        """The models that workers serve or are about to serve, adapters too, each once."""
        return sorted({name for worker in self._connections.values() for name in worker.offers})

    def only_name(self) -> str | None:
        """The only model's name, whatever adapters it has; None if there are none or several."""
        names = {name for worker in self._connections.values() if (name := worker.model_name)}
        return names.pop() if len(names) == 1 else None

    def parent_of(self, name: str) -> str | None:
        """The model whose adapter ``name`` is; empty for a model; None for one not heard of.

        A name means one thing, in whatever state its workers are: the model that has it rather than
        an adapter, and of the adapters of several models that of the first by name. So an answer
        does not come from other weights because a worker restarts.
        """
        offered = (worker.offers.get(name) for worker in self._connections.values())
        return min((parent for parent in offered if parent is not None), default=None)

    def workers_of(self, name: str) -> list[WorkerConnection]:
        """The workers that serve the model of that name or are about to, by address."""
        parent = self.parent_of(name)
        if parent is None:
            return []
        return [worker for worker in self.connections if worker.offers.get(name) == parent]

    def ready_models(self) -> list[ServedModel]:
        """The models that can be served now, each name once."""
        return [model for name in self.model_names() if (model := self.ready_model(name))]

    def ready_model(self, name: str) -> ServedModel | None:
        """The model of that name, if it can be served now.

        Its workers may have room for different lengths of context. The smallest is what all of
        them serve, so it is the model's. Of what a request may need besides, it has all that any
        of them honours: such a request goes only to those that do.
        """
        models = [worker.models[name] for worker in self.workers_of(name) if worker.ready]
        if len(models) < 2:
            return models[0] if models else None
        return min(models, key=lambda model: model.max_model_len).beside(models)

    def speaker(self, name: str) -> WorkerConnection | None:
        """The worker that is furthest on and so speaks for the model of that name."""
        workers = self.workers_of(name)
        return max(workers, key=lambda worker: worker.loading.progress, default=None)

    def loading(self, name: str | None) -> Loading:
        """How far the model of that name is, or the only one there is."""
        name = self.only_name() if name is None else name
        worker = self.speaker(name) if name is not None else None
        return worker.loading if worker else CONNECTING

    def model(self, name: str | None) -> ServedModel:
        """The model of that name, or the only one there is.

        Raises ModelLoading while it is on its way, ModelFailed when it will not come, Unavailable
        while its workers are away, ModelNotFound, and InvalidRequest when ``name`` is None and
        several models are served.
        """
        name = self.only_name() if name is None else name
        if name is None:
            raise self._which()
        model = self.ready_model(name)
        if model is None:
            raise self.why_not(name)
        return model

    def _which(self) -> ApiError:
        names = self.model_names()
        if not names:
            return ModelLoading(None, CONNECTING)
        return InvalidRequest(
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
            for worker in self.workers_of(model.name)
            if worker.ready and worker.models[model.name].takes_prompts_of(model)
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
