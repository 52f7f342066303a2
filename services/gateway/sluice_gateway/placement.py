"""A generation's place on a worker: found, lost, and found again.

What another worker needs to go on is the prompt's ids and those generated so far. So the loss of a
worker is a pause of the stream, and an error only when nobody else can take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

from sluice_gateway.connection import WorkerConnection
from sluice_gateway.errors import ApiError, InternalError, Overloaded, Unavailable, WorkerLost
from sluice_gateway.gateway import Gateway
from sluice_gateway.generation import Generation
from sluice_gateway.model import ServedModel
from sluice_gateway.record import Attempt, RequestRecord
from sluice_gateway.session import rows_on

log = logging.getLogger(__name__)

#: How often a request that no worker takes over asks again.
RETRY_SECONDS = 0.2

#: How many workers are asked before a refusal is passed on to the client.
ATTEMPTS = 3

#: A request that loses so many workers without a token between may be what breaks them: it gets
#: no other.
LOSSES_MAX = 2


class Placement:
    """Holds a place on a worker for one generation, while entered."""

    def __init__(
        self,
        gateway: Gateway,
        model: ServedModel,
        generation: Generation,
        record: RequestRecord,
    ) -> None:
        self._gateway = gateway
        self._model = model
        self._generation = generation
        self._record = record
        self._attempt: Attempt | None = None
        self._place = contextlib.ExitStack()
        self._losses = 0
        self._tokens_at_loss = -1
        self._moving: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[Placement]:
        """On leaving, abort what is left of the generation."""
        try:
            yield self
        finally:
            self._generation.on_lost = _not_any_more
            if self._moving is not None:
                self._moving.cancel()
            if self._attempt is not None:
                self._attempt.end("aborted" if self._generation.rows_left else "done")
            self._place.close()

    async def find(self) -> None:
        """Find a worker that takes the generation; one that refuses is not the last word.

        Raises ApiError: the last refusal, or why nobody could be asked.
        """
        refused: list[WorkerConnection] = []
        refusal: ApiError | None = None
        while len(refused) < ATTEMPTS and not self._gateway.admission.expired:
            worker = self._gateway.router.pick(self._model, but_not=refused)
            if worker is None:
                break
            try:
                await self._try(worker)
            except WorkerLost as error:
                if self._lost_too_many():
                    raise
                refused.append(worker)
                refusal = error
            except (Overloaded, Unavailable) as error:
                refused.append(worker)
                refusal = error
            else:
                return
        raise refusal or self._gateway.router.why_not(self._model.name)

    async def _try(self, worker: WorkerConnection) -> None:
        """Have ``worker`` take it. Raises the ApiError with which it refuses."""
        generation = self._generation
        before, attempt = self._attempt, self._record.attempt(worker.name)
        self._attempt = attempt
        if self._record.trace is not None:
            self._record.trace.attempt(generation, attempt, before)
        self._place.close()
        try:
            self._place.enter_context(rows_on(worker.session, generation))
            await generation.admission()
        except ApiError as error:
            attempt.end("lost" if isinstance(error, WorkerLost) else "refused")
            raise
        attempt.admit()
        generation.on_lost = self._on_lost

    def _lost_too_many(self) -> bool:
        """Note a loss. Whether no other worker may be asked."""
        tokens = sum(len(row.ids) for row in self._generation.rows)
        self._losses = 1 if tokens > self._tokens_at_loss else self._losses + 1
        self._tokens_at_loss = tokens
        return self._losses >= LOSSES_MAX

    def _on_lost(self, failure: WorkerLost) -> bool:
        """The worker has taken it and was lost. Whether another is looked for."""
        assert self._attempt is not None
        self._attempt.end("lost")
        if self._lost_too_many() or not self._generation.rows_left:
            return False
        self._moving = asyncio.create_task(self._move(failure))
        return True

    async def _move(self, failure: WorkerLost) -> None:
        """Go on elsewhere; else fail."""
        end: ApiError = failure
        try:
            if await self._moved():
                self._gateway.metrics.of_model(self._model.name).failovers.inc()
                return
        except Exception:
            log.exception("request %s could not be moved", self._record.request_id)
            end = InternalError("The gateway failed this request; its log says why.")
        self._generation.on_lost = _not_any_more
        self._generation.fail(end)

    async def _moved(self) -> bool:
        """Whether a worker has taken it over in time: the same one, too, if it comes back."""
        router = self._gateway.router
        deadline = time.monotonic() + self._gateway.settings.failover_seconds
        while not self._gateway.admission.expired:
            changes = router.changes.count
            try:
                await self.find()
            except WorkerLost:
                return False
            except (Overloaded, Unavailable) as error:
                log.debug("request %s finds no worker yet: %s", self._record.request_id, error)
            except ApiError as error:  # another kind of worker, which cannot go on with it
                log.warning("request %s: not taken over: %s", self._record.request_id, error)
                return False
            else:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                break
            # One that is full may have room soon, and tells nobody.
            await router.changes.beyond(changes, min(left, RETRY_SECONDS))
        return False


def _not_any_more(_failure: WorkerLost) -> bool:
    return False
