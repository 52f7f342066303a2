"""A request's rows while workers generate them: filled by sessions, drained by an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import ApiError, WorkerLost
from sluice_gateway.output import TokenScore
from sluice_gateway.prompt_scores import PromptScores
from sluice_gateway.step_count import MeanBatch

if TYPE_CHECKING:
    from sluice_gateway.fast_path import FastPath


class Listener(Protocol):
    """Answers a request."""

    def gather(self) -> None:
        """Make of what is new in the rows what is to be sent."""

    def send(self) -> None:
        """Send that."""


class Signal:
    """Tells the one listener of a request that there is something new in its rows.

    The listener is called within the reader's own call: a future and a task switch per token
    would cost more than all that is done with the token. Nothing is lost without a listener: what
    is new stays in the rows.
    """

    __slots__ = ("listener",)

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def gather(self) -> None:
        """The first half of ``wake``."""
        if self.listener is not None:
            self.listener.gather()

    def send(self) -> None:
        """The second half, apart so that the writes of a step are made one after the other.

        A client's process then wakes once and finds all, rather than once for each.
        """
        if self.listener is not None:
            self.listener.send()

    def wake(self) -> None:
        """Have the listener take and send what is new."""
        self.gather()
        self.send()


class Row:
    """One sequence of a request. ``ids`` is all that was generated so far.

    The prompt and ``ids`` are all that another worker would need to go on. ``logprobs`` is
    parallel to ``ids`` when they were asked for, else empty.
    """

    __slots__ = (
        "_batch",
        "batch_size",
        "fast_path",
        "finish",
        "generation",
        "ids",
        "logprobs",
        "on_abort",
        "seed",
        "signal",
        "start",
        "unwanted",
    )

    def __init__(self, generation: Generation, seed: int, signal: Signal) -> None:
        self.generation = generation
        self.seed = seed
        self.signal = signal
        self.ids: list[int] = []
        self.logprobs: list[TokenScore] = []
        self.start: pb.RowStart | None = None
        self.finish: pb.RowFinish | None = None
        #: A short way for its tokens, if it has one.
        self.fast_path: FastPath | None = None
        #: Whether it has been aborted: it is not to go on anywhere.
        self.unwanted = False
        #: Ends the row on the worker that it was submitted to; does nothing once it has ended.
        self.on_abort: Callable[[], None] = _not_submitted
        #: The mean rows of the engine's steps that it took part in; None before its end.
        self.batch_size: float | None = None
        self._batch: MeanBatch | None = None

    def begin(self, start: pb.RowStart, batch: MeanBatch) -> None:
        """Its first token is there; one that goes on elsewhere has begun already."""
        if self.start is None:
            self.start = start
        self._batch = batch

    def end(self, finish: pb.RowFinish) -> None:
        """The worker has ended it."""
        self.finish = finish
        self._note_batch_size()

    def abort(self) -> None:
        """Nobody wants more of it."""
        self.unwanted = True
        self._note_batch_size()
        self.on_abort()

    def _note_batch_size(self) -> None:
        if self._batch is not None:
            self.batch_size = self._batch.value
            self._batch = None


def _not_submitted() -> None:
    """Do nothing: no worker has the row."""


def _goes_nowhere(_failure: WorkerLost) -> bool:
    return False


class Generation:
    """One prompt and its rows, on one worker at a time.

    The consumer sees new tokens in ``Row.ids``. ``prompt_scores`` are the
    log-probabilities of the prompt's tokens, where they were asked for.
    """

    __slots__ = (
        "_answered",
        "_refusal",
        "adapter",
        "failure",
        "on_lost",
        "priority",
        "prompt_ids",
        "prompt_scores",
        "request_id",
        "rows",
        "sampling",
        "signal",
        "traceparent",
        "tracestate",
    )

    def __init__(
        self,
        prompt_ids: list[int],
        sampling: pb.SamplingParams,
        seeds: list[int],
        signal: Signal,
        request_id: str = "",
        adapter: str = "",
        priority: int = 0,
    ) -> None:
        self.adapter = adapter
        self.priority = priority
        self.prompt_ids = prompt_ids
        self.sampling = sampling
        self.signal = signal
        self.request_id = request_id
        self.rows = [Row(self, seed, signal) for seed in seeds]
        self.prompt_scores: PromptScores | None = None
        if sampling.HasField("prompt_logprobs"):
            self.prompt_scores = PromptScores(len(prompt_ids))
        self.failure: ApiError | None = None
        #: Asked when its worker is lost: whether it goes on elsewhere, rather than to fail.
        self.on_lost: Callable[[WorkerLost], bool] = _goes_nowhere
        #: The W3C trace context of its present attempt.
        self.traceparent = self.tracestate = ""
        self._refusal: ApiError | None = None
        self._answered = asyncio.Event()

    @property
    def rows_left(self) -> list[Row]:
        """The rows that have not ended and that somebody wants."""
        return [row for row in self.rows if row.finish is None and not row.unwanted]

    @property
    def sampling_left(self) -> pb.SamplingParams:
        """What a worker is still to be asked for: of the prompt nothing that was told."""
        if self.prompt_scores is None or not self.prompt_scores.complete:
            return self.sampling
        left = pb.SamplingParams()
        left.CopyFrom(self.sampling)
        left.ClearField("prompt_logprobs")
        return left

    async def admission(self) -> None:
        """Return when the worker has taken the request. Raises the ApiError if it did not."""
        await self._answered.wait()
        if self._refusal is not None:
            raise self._refusal

    def submitted(self) -> None:
        """A worker is being asked, this one or another."""
        self._refusal = None
        self._answered.clear()

    def admit(self) -> None:
        """The worker has taken the request."""
        self._answered.set()

    def fail(self, failure: ApiError) -> None:
        """End all rows that have not ended, unless they go on elsewhere.

        Before the worker has taken them it is its refusal, and no end.
        """
        if not self._answered.is_set():
            self._refusal = failure
            self._answered.set()
            return
        if isinstance(failure, WorkerLost) and self.on_lost(failure):
            return
        self.failure = failure
        self.signal.wake()
