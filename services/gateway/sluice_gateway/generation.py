"""A request's rows while workers generate them: filled by sessions, drained by an exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import ApiError
from sluice_gateway.output import TokenScore
from sluice_gateway.prompt_scores import PromptScores


class Signal:
    """Tells the one listener of a request that there is something new in its rows.

    The listener is called within the reader's own call: a future and a task switch per token
    would cost more than all that is done with the token.
    """

    __slots__ = ("listener",)

    def __init__(self) -> None:
        self.listener: Callable[[], None] | None = None

    def wake(self) -> None:
        """Call the listener. Nothing is lost without one: what is new stays in the rows."""
        if self.listener is not None:
            self.listener()


class Row:
    """One sequence of a request. ``ids`` is all that was generated so far.

    The prompt and ``ids`` are all that another worker would need to go on. ``logprobs`` is
    parallel to ``ids`` when they were asked for, else empty.
    """

    __slots__ = ("abort", "finish", "generation", "ids", "logprobs", "seed", "signal", "start")

    def __init__(self, generation: Generation, seed: int, signal: Signal) -> None:
        self.generation = generation
        self.seed = seed
        self.signal = signal
        self.ids: list[int] = []
        self.logprobs: list[TokenScore] = []
        self.start: pb.RowStart | None = None
        self.finish: pb.RowFinish | None = None
        #: Ends the row on the worker that it was submitted to; does nothing once it has ended.
        self.abort: Callable[[], None] = _not_submitted


def _not_submitted() -> None:
    """Do nothing: no worker has the row."""


class Generation:
    """One prompt and its rows, on one worker. The consumer sees new tokens in ``Row.ids``.

    ``prompt_scores`` are the log-probabilities of the prompt's tokens, where they were asked for.
    """

    __slots__ = (
        "_answered",
        "adapter",
        "failure",
        "priority",
        "prompt_ids",
        "prompt_scores",
        "request_id",
        "rows",
        "sampling",
        "signal",
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
        self._answered = asyncio.Event()

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
        if self.failure is not None:
            raise self.failure

    def forget_refusal(self) -> None:
        """Make ready for another worker, after one that refused."""
        self.failure = None
        self._answered.clear()

    def admit(self) -> None:
        """The worker has taken the request."""
        self._answered.set()

    def fail(self, failure: ApiError) -> None:
        """End all rows that have not ended."""
        self.failure = failure
        self._answered.set()
        self.signal.wake()
