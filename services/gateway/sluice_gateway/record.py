"""What became of one request: for its line in the log, its timings, its trace and its metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.errors import ApiError
from sluice_gateway.schema.sampling import SamplingRequest
from sluice_gateway.usage import Usage

if TYPE_CHECKING:  # traces that are off are not even imported
    from sluice_gateway.request_trace import RequestTrace


@dataclass(eq=False, slots=True)
class Attempt:
    """One prompt on one worker, from its submission to its end there.

    Times are those of ``time.perf_counter``. ``outcome`` is empty until it has ended, then
    ``done``, ``refused``, ``lost`` (the worker went away) or ``aborted``.
    """

    worker: str
    submitted: float
    admitted: float | None = None
    ended: float | None = None
    outcome: str = ""

    def admit(self) -> None:
        """The worker has taken it."""
        self.admitted = time.perf_counter()

    def end(self, outcome: str) -> None:
        """Note how it ended; only the first end counts."""
        if self.ended is None:
            self.ended = time.perf_counter()
            self.outcome = outcome


@dataclass(eq=False, slots=True)
class RequestRecord:
    """Filled by whoever knows, read when the request is over.

    Times are those of ``time.perf_counter``, seconds; None: it did not come to that. ``model`` is
    one that is served, never a client's text. ``served_from`` is the arrival, or for a request
    that waited for its model to load the moment when that was there: what is measured from it
    tells of serving. ``batch_size`` is the mean number of rows of the engine steps that this
    request's first row took part in.
    """

    request_id: str
    arrived: float = field(default_factory=time.perf_counter)
    #: The moment of ``arrived`` by the clock on the wall, nanoseconds since 1970.
    arrived_ns: int = field(default_factory=time.time_ns)
    served_from: float = 0.0
    method: str = ""
    route: str = ""
    #: What the client asked for; None for what is no request of a generating route.
    request: SamplingRequest | None = None
    model: str = ""
    stream: bool = False
    choices: int = 0
    max_tokens: int | None = None
    #: Whether it waits, or has waited, for its model to load.
    waits: bool = False
    prepared: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    start: pb.RowStart | None = None
    first_token: float | None = None
    batch_size: float | None = None
    usage: Usage | None = None
    finish_reasons: tuple[str, ...] = ()
    response_id: str = ""
    status: int = 0
    error: ApiError | None = None
    disconnected: bool = False
    #: Of a trace that is sampled, 32 hex digits; else empty.
    trace_id: str = ""
    #: None while traces are off.
    trace: RequestTrace | None = None
    #: What was asked and answered, as text; only where the operator wants it in the log.
    prompts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    ended: float | None = None

    def __post_init__(self) -> None:
        self.served_from = self.arrived

    def serve_from_now(self) -> None:
        """The request has waited for its model, which is there now."""
        self.served_from = time.perf_counter()

    def attempt(self, worker: str) -> Attempt:
        """A new attempt, on the worker of that name."""
        begun = Attempt(worker, time.perf_counter())
        self.attempts.append(begun)
        return begun

    def note_first_token(self, start: pb.RowStart | None) -> None:
        """The first token of the request is there; ``start`` is its row's."""
        self.first_token = time.perf_counter()
        self.start = start

    @property
    def worker(self) -> str:
        """The worker that the request ended on; empty if none took it."""
        taken = (each.worker for each in reversed(self.attempts) if each.admitted is not None)
        return next(taken, "")

    @property
    def waited_seconds(self) -> float:
        """How long it waited for its model to load."""
        return self.served_from - self.arrived

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds to the first token."""
        return None if self.first_token is None else self.first_token - self.served_from

    @property
    def queue_seconds(self) -> float | None:
        """How much of that it waited in the worker's queue."""
        return None if self.start is None else self.start.queue_us / 1e6

    @property
    def prefill_seconds(self) -> float | None:
        """How much of that the worker computed on the prompt."""
        return None if self.start is None else self.start.prefill_us / 1e6

    @property
    def gateway_seconds(self) -> float | None:
        """The rest of it: the gateway's own work, its queue, and the way between the two."""
        if self.first_token is None or self.start is None:
            return None
        spent = (self.start.queue_us + self.start.prefill_us) / 1e6
        return max(0.0, self.first_token - self.served_from - spent)

    @property
    def decode_seconds(self) -> float | None:
        """From the first token to the end, or to now."""
        return None if self.first_token is None else self._end - self.first_token

    @property
    def seconds(self) -> float:
        """From the arrival to the end, or to now."""
        return self._end - self.arrived

    @property
    def _end(self) -> float:
        return time.perf_counter() if self.ended is None else self.ended
