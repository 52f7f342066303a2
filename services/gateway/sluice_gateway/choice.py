"""One choice of an answer: a row of ids on one side, events of text on the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.echo import Echo
from sluice_gateway.errors import ApiError, InternalError
from sluice_gateway.failures import failure_of
from sluice_gateway.fast_path import FastPath
from sluice_gateway.generation import Row
from sluice_gateway.inter_token import Intervals
from sluice_gateway.output import Event, Finished, FinishReason, OutputMachine, TextDelta
from sluice_gateway.output.logprobs import floored

_REASONS: dict[pb.FinishReason.ValueType, FinishReason] = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
}


#: Makes a short way of texts by token id, the tokens that end a choice, and where intervals count.
MakePath = Callable[[Sequence[str | None], frozenset[int], Intervals], FastPath]


class Choice:
    """A row, and the machine that turns its ids into events.

    ``done`` once it has ended, then with either a ``finish_reason`` or a ``failure``.
    """

    __slots__ = (
        "_intervals",
        "_last_token",
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
        self,
        index: int,
        row: Row,
        machine: OutputMachine,
        *,
        wants_logprobs: bool,
        intervals: Intervals,
    ) -> None:
        """``intervals``: where the time between its tokens is counted."""
        self.index = index
        self.row = row
        self.done = False
        self.finish_reason: FinishReason | None = None
        self.failure: ApiError | None = None
        self._machine = machine
        self._wants_logprobs = wants_logprobs
        self._intervals = intervals
        self._taken = 0
        self._last_token = 0.0

    def advance(self) -> list[Event]:
        """What is new since the last call."""
        row = self.row
        if row.fast_path is not None:
            self._close_path(row.fast_path)
        events: list[Event] = []
        count = len(row.ids)
        if count > self._taken:
            fresh = row.ids[self._taken :]
            logprobs = row.logprobs[self._taken :] if self._wants_logprobs else None
            now = time.perf_counter()
            if self._taken:
                self._intervals.add(now - self._last_token, len(fresh))
            self._last_token = now
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

    def make_path(self, make: MakePath) -> None:
        """Let tokens go a short way past the machine, if this choice's ever can."""
        texts = None if self._wants_logprobs else self._machine.texts
        if texts is not None:
            self.row.fast_path = make(texts, self._machine.stop_ids, self._intervals)

    def open_path(self) -> None:
        """Let the next tokens go the short way, if there is one and they can."""
        path = self.row.fast_path
        if path is not None and self._taken and not self.done and self._machine.settled:
            path.open(self._last_token)

    def drop_path(self) -> None:
        """Have no short way any more."""
        if self.row.fast_path is not None:
            self._close_path(self.row.fast_path)
            self.row.fast_path = None

    def _close_path(self, path: FastPath) -> None:
        """Count what went past the machine."""
        tokens, last = path.close()
        if tokens:
            self._taken += tokens
            self._machine.completion_tokens += tokens
            self._last_token = last

    def _finish(self, events: list[Event]) -> None:
        self.done = True
        last = events[-1] if events else None
        if isinstance(last, Finished):
            self.finish_reason = last.reason

    @property
    def completion_tokens(self) -> int:
        """Tokens that the client is told of; those after a stop string do not count."""
        path = self.row.fast_path
        return self._machine.completion_tokens + (path.tokens if path is not None else 0)

    @property
    def mean_logprob(self) -> float:
        """The mean log-probability of its tokens, where they were asked for; 0 of none."""
        scores = self.row.logprobs[: self.completion_tokens]
        return sum(floored(logprob) for logprob, _ in scores) / max(1, len(scores))

    @property
    def reasoning_tokens(self) -> int:
        """Those of them in which the model reasoned."""
        return self._machine.reasoning_tokens


class EchoingChoice(Choice):
    """A choice that begins with its prompt and the prompt's log-probabilities.

    Until the worker has told all of those, what its row generates is kept.
    """

    __slots__ = ("_echo", "_shift")

    def __init__(
        self,
        index: int,
        row: Row,
        machine: OutputMachine,
        echo: Echo,
        *,
        wants_logprobs: bool,
        intervals: Intervals,
    ) -> None:
        super().__init__(index, row, machine, wants_logprobs=wants_logprobs, intervals=intervals)
        self._echo: Echo | None = echo
        self._shift = len(echo.text)

    def make_path(self, make: MakePath) -> None:
        """There is none: what comes first is no token of the row."""

    def advance(self) -> list[Event]:
        """See Choice."""
        if self._echo is None:
            return self._behind_prompt(super().advance())
        prompt = self._echo.event()
        if prompt is None:
            self._look_for_failure()
            return []
        self._echo = None
        return [prompt, *self._behind_prompt(super().advance())]

    def _look_for_failure(self) -> None:
        """An end without the prompt's log-probabilities is one, too."""
        finish, generation = self.row.finish, self.row.generation
        self.failure = (failure_of(finish) if finish is not None else None) or generation.failure
        if self.failure is None and all(row.finish is not None for row in generation.rows):
            self.failure = InternalError("The worker told nothing of the prompt.")
        self.done = self.failure is not None

    def _behind_prompt(self, events: list[Event]) -> list[Event]:
        """The events with offsets that count the prompt's text."""
        for event in events:
            if isinstance(event, TextDelta):
                for found in event.logprobs or ():
                    found.offset += self._shift
        return events
