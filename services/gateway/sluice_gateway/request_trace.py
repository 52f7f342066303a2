"""The spans of one request.

While it runs there are two kinds: the request's own and one for each attempt on a worker, whose
context the worker needs. The others are made at its end, from the times in its record: what runs
per token knows nothing of traces.
"""

from __future__ import annotations

import time

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from starlette.types import Scope

from sluice_gateway.failures import failure_of
from sluice_gateway.generation import Generation
from sluice_gateway.record import Attempt, RequestRecord
from sluice_gateway.trace_attributes import clean, content_attributes, request_attributes

#: Attempts of one request that have spans. A request may have very many prompts, and what looks
#: for a worker again and again may ask very often.
ATTEMPTS_MAX = 64

#: What took less time than this, in seconds, is not worth a span.
WORTH_SHOWING = 0.005


class _AttemptSpan:
    """The span of an attempt, with what is to be known at its end."""

    __slots__ = ("attempt", "before", "generation", "span")

    def __init__(
        self, span: Span, generation: Generation, attempt: Attempt, before: Attempt | None
    ) -> None:
        self.span = span
        self.generation = generation
        self.attempt = attempt
        self.before = before


class RequestTrace:
    """Begins with the request and ends with it.

    ``prompts`` and ``answers`` are for the span where ``wants_content``.
    """

    def __init__(
        self,
        tracer: Tracer,
        operation: str,
        record: RequestRecord,
        parent: Context,
        *,
        content: bool,
    ) -> None:
        """Also notes the id of a trace that is sampled in ``record``."""
        self._tracer = tracer
        self._operation = operation
        self._began = record.arrived
        self._began_ns = record.arrived_ns
        self._span = tracer.start_span(
            operation, parent, SpanKind.SERVER, start_time=record.arrived_ns
        )
        self._recording = self._span.is_recording()
        self._inside = set_span_in_context(self._span, parent)
        self._attempts: dict[Attempt, _AttemptSpan] = {}
        context = self._span.get_span_context()
        if context.trace_flags.sampled:
            record.trace_id = f"{context.trace_id:032x}"
        self.wants_content = content and self._recording
        self.prompts: list[str] = []
        self.answers: list[str] = []

    def attempt(self, generation: Generation, attempt: Attempt, before: Attempt | None) -> None:
        """``generation`` is about to be submitted: give it the context for the worker's spans.

        ``before``: the attempt that this one follows, because it was refused or lost.
        """
        span = self._span
        if self._recording and len(self._attempts) < ATTEMPTS_MAX:
            earlier = self._attempts.get(before) if before else None
            links = [Link(earlier.span.get_span_context())] if earlier else []
            span = self._tracer.start_span(
                f"generate {attempt.worker}",
                self._inside,
                SpanKind.CLIENT,
                links=links,
                start_time=self._ns(attempt.submitted),
            )
            self._attempts[attempt] = _AttemptSpan(span, generation, attempt, before)
        _give(span.get_span_context(), generation)

    def end(self, record: RequestRecord, scope: Scope, fault: BaseException | None) -> None:
        """The request is over. ``scope`` is ASGI's; ``fault``: what it raised, if it did."""
        if not self._recording:
            return
        ended = time.perf_counter()
        self._show_waiting(record, ended)
        self._show_places(record, ended)
        for each in self._attempts.values():
            self._end_attempt(each, ended)
        if record.model:
            self._span.update_name(f"{self._operation} {record.model}")
        self._span.set_attributes(request_attributes(self._operation, record, scope, fault))
        if self.prompts:
            self._span.set_attributes(content_attributes(record, self.prompts, self.answers))
        if (status := _status(record, fault)) is not None:
            self._span.set_status(status)
        self._span.end(self._ns(ended))

    def _show_waiting(self, record: RequestRecord, ended: float) -> None:
        """For the model to load, and then the request's preparation: parse, render, tokenize."""
        if record.waits:
            came = record.served_from > record.arrived
            self._show("wait", record.arrived, record.served_from if came else ended)
        if record.prepared is not None:
            self._show("prepare", record.served_from, record.prepared)

    def _show_places(self, record: RequestRecord, ended: float) -> None:
        """Looking for a worker, where that took its time."""
        followed = {each.before for each in self._attempts.values()}
        for attempt, each in self._attempts.items():
            since = each.before.ended if each.before else record.prepared
            self._show_place(since, attempt.submitted)
            if attempt.outcome in ("lost", "refused") and attempt not in followed:
                self._show_place(attempt.ended, ended)
        if not self._attempts and record.error is not None:
            self._show_place(record.prepared, ended)

    def _show_place(self, since: float | None, until: float) -> None:
        if since is not None and until - since >= WORTH_SHOWING:
            self._show("place", since, until)

    def _show(self, name: str, since: float, until: float) -> None:
        span = self._tracer.start_span(name, self._inside, start_time=self._ns(since))
        span.end(self._ns(until))

    def _end_attempt(self, each: _AttemptSpan, ended: float) -> None:
        attempt, span = each.attempt, each.span
        span.set_attributes({"sluice.worker": attempt.worker, "sluice.outcome": attempt.outcome})
        if attempt.admitted is not None:
            seconds = attempt.admitted - attempt.submitted
            span.set_attribute("sluice.admission_seconds", seconds)
        if failure := _failure_of(each):
            span.set_attribute("error.type", failure)
            span.set_status(Status(StatusCode.ERROR))
        span.end(self._ns(ended if attempt.ended is None else attempt.ended))

    def _ns(self, moment: float) -> int:
        """A moment of ``time.perf_counter`` by the clock on the wall, nanoseconds since 1970."""
        return self._began_ns + int((moment - self._began) * 1e9)


def _give(context: SpanContext, generation: Generation) -> None:
    flags = int(context.trace_flags)
    generation.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"
    generation.tracestate = context.trace_state.to_header()


def _failure_of(each: _AttemptSpan) -> str:
    """What went wrong with an attempt; empty if nothing did."""
    outcome = each.attempt.outcome
    if outcome == "lost":
        return "worker_lost"
    if outcome == "refused":
        return "refused"
    finishes = (row.finish for row in each.generation.rows if row.finish)
    failures = (failure for finish in finishes if (failure := failure_of(finish)))
    return next((failure.code or failure.type for failure in failures), "")


def _status(record: RequestRecord, fault: BaseException | None) -> Status | None:
    """An error where Sluice failed. What the client did wrong or left is none."""
    if fault is not None:
        return Status(StatusCode.ERROR, type(fault).__name__)
    error = record.error
    if error is not None and (error.status >= 500 or record.first_token is not None):
        return Status(StatusCode.ERROR, clean(error.message))
    return None
