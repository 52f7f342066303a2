"""One choice of an answer: a row of ids on one side, events of text on the other."""

from __future__ import annotations

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import ApiError
from sluice_gateway.failures import failure_of
from sluice_gateway.generation import Row
from sluice_gateway.output import Event, Finished, FinishReason, OutputMachine
from sluice_gateway.output.logprobs import floored

_REASONS: dict[pb.FinishReason.ValueType, FinishReason] = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
}


class Choice:
    """A row, and the machine that turns its ids into events.

    ``done`` once it has ended, then with either a ``finish_reason`` or a ``failure``.
    """

    __slots__ = (
        "_machine",
        "_taken",
        "_wants_logprobs",
        "done",
        "failure",
        "finish_reason",
        "index",
        "row",
    )

    def __init__(
        self, index: int, row: Row, machine: OutputMachine, *, wants_logprobs: bool
    ) -> None:
        self.index = index
        self.row = row
        self.done = False
        self.finish_reason: FinishReason | None = None
        self.failure: ApiError | None = None
        self._machine = machine
        self._wants_logprobs = wants_logprobs
        self._taken = 0

    def advance(self) -> list[Event]:
        """What is new since the last call."""
        row = self.row
        events: list[Event] = []
        count = len(row.ids)
        if count > self._taken:
            fresh = row.ids[self._taken :]
            logprobs = row.logprobs[self._taken :] if self._wants_logprobs else None
            self._taken = count
            events = self._machine.feed(fresh, logprobs)
        if self._machine.finished:  # a stop string: the worker does not know of it
            row.abort()
            self._finish(events)
        elif row.finish is not None:
            self.failure = failure_of(row.finish)
            if self.failure is None:
                events += self._machine.close(_REASONS[row.finish.reason])
                self._finish(events)
        else:
            self.failure = row.generation.failure
        self.done = self.done or self.failure is not None
        return events

    def _finish(self, events: list[Event]) -> None:
        self.done = True
        last = events[-1] if events else None
        if isinstance(last, Finished):
            self.finish_reason = last.reason

    @property
    def completion_tokens(self) -> int:
        """Tokens that the client is told of; those after a stop string do not count."""
        return self._machine.completion_tokens

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of its tokens. Of a choice that has some, and asked for it."""
        scores = self.row.logprobs[: self.completion_tokens]
        return sum(floored(logprob) for logprob, _ in scores) / len(scores)

    @property
    def reasoning_tokens(self) -> int:
        """Those of them in which the model reasoned."""
        return self._machine.reasoning_tokens
