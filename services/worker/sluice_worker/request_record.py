"""What became of one Submit on this worker: for its line in the log, and its trace."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.engines.base import RequestError, RowStart

#: How a row ended that no engine ended.
ABORTED = "aborted"
SESSION_LOST = "session_lost"

#: W3C's Trace Context, of a trace that is sampled.
_SAMPLED = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f][13579bdf]"
)


@dataclass(slots=True)
class StepCount:
    """Engine steps that brought tokens to one session, and the rows of those steps."""

    steps: int = 0
    rows: int = 0

    def add(self, batch_size: int) -> None:
        """One more step."""
        self.steps += 1
        self.rows += batch_size


@dataclass(eq=False, slots=True)
class RequestRecord:
    """Filled by the session, read when its last row has ended.

    Times are those of ``time.perf_counter``, seconds; None: it did not come to that. ``start`` is
    that of the row that began first, ``batch_size`` the mean number of rows of the session's
    steps from then on.
    """

    request_id: str
    gateway: str
    adapter: str
    traceparent: str
    tracestate: str
    row_ids: tuple[int, ...]
    prompt_tokens: int
    submitted: float = field(default_factory=time.perf_counter)
    #: The moment of ``submitted`` by the clock on the wall, nanoseconds since 1970.
    submitted_ns: int = field(default_factory=time.time_ns)
    #: Whether it has a structured output, which is compiled before the engine has the request.
    compiles: bool = False
    queued: float | None = None
    start: RowStart | None = None
    generated_tokens: int = 0
    batch_size: float | None = None
    #: How each row ended, by its id.
    outcomes: dict[int, str] = field(default_factory=dict)
    error: RequestError | None = None
    refused: bool = False
    ended: float | None = None
    _before: StepCount = field(default_factory=StepCount)

    @classmethod
    def of(cls, submit: pb.Submit, gateway: str) -> RequestRecord:
        """That of a request which has just come."""
        return cls(
            request_id=submit.request_id,
            gateway=gateway,
            adapter=submit.adapter,
            traceparent=submit.traceparent,
            tracestate=submit.tracestate,
            row_ids=tuple(row.row_id for row in submit.rows),
            prompt_tokens=len(submit.prompt_ids),
            compiles=submit.sampling.HasField("structured_output"),
        )

    def queue(self) -> None:
        """The engine gets it."""
        self.queued = time.perf_counter()

    def begin(self, start: RowStart, steps: StepCount) -> None:
        """A row has its first token; ``steps``: the session's before it. Only the first counts."""
        if self.start is None:
            self.start = start
            self._before = StepCount(steps.steps, steps.rows)

    def end_row(
        self, row_id: int, outcome: str, steps: StepCount, error: RequestError | None = None
    ) -> bool:
        """A row has ended. Whether it was the last one."""
        self.outcomes[row_id] = outcome
        self.error = self.error or error
        if len(self.outcomes) < len(self.row_ids):
            return False
        self.ended = time.perf_counter()
        count = steps.steps - self._before.steps
        if self.start is not None and count:
            self.batch_size = (steps.rows - self._before.rows) / count
        return True

    def refuse(self, error: RequestError) -> None:
        """It is over: the engine does not get it."""
        self.refused = True
        self.error = error
        self.ended = time.perf_counter()

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """How the rows ended, in their order."""
        return tuple(self.outcomes[row_id] for row_id in self.row_ids if row_id in self.outcomes)

    @property
    def first_token(self) -> float | None:
        """When the first token was there."""
        if self.queued is None or self.start is None:
            return None
        return self.queued + self.start.queue_seconds + self.start.prefill_seconds

    @property
    def decode_seconds(self) -> float | None:
        """From the first token to the end of the last row."""
        if self.first_token is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.first_token)

    @property
    def trace_id(self) -> str:
        """The request's trace if that is sampled, 32 hex digits; else empty."""
        found = _SAMPLED.match(self.traceparent)
        return found[1] if found else ""
