"""The spans of one request on this worker, made when it is over from what its record says.

So what runs per token knows nothing of traces.
"""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from sluice_worker.request_record import ABORTED, SESSION_LOST, RequestRecord


def show_request(tracer: Tracer, parent: Context, model: str, record: RequestRecord) -> None:
    """Make the request's span below ``parent``, and those of its parts below it."""
    ended = record.submitted if record.ended is None else record.ended
    span = tracer.start_span(
        f"generate {model}", parent, SpanKind.SERVER, start_time=_ns(record, record.submitted)
    )
    if not span.is_recording():
        return
    inside = set_span_in_context(span, parent)
    for name, since, until in _parts(record, ended):
        part = tracer.start_span(name, inside, start_time=_ns(record, since))
        part.end(_ns(record, until))
    span.set_attributes(_attributes(model, record))
    if record.error is not None:
        span.set_status(Status(StatusCode.ERROR))
    span.end(_ns(record, ended))


def _parts(record: RequestRecord, ended: float) -> list[tuple[str, float, float]]:
    """Name, beginning and end of each part that is known to have been."""
    parts = []
    if record.compiles:
        compiled = ended if record.queued is None else record.queued
        parts.append(("compile", record.submitted, compiled))
    start, first = record.start, record.first_token
    if record.queued is not None and start is not None and first is not None:
        began = record.queued + start.queue_seconds
        parts += [
            ("queue", record.queued, began),
            ("prefill", began, first),
            ("decode", first, max(first, ended)),
        ]
    return parts


def _attributes(model: str, record: RequestRecord) -> dict[str, AttributeValue]:
    """``gen_ai.*`` are those of OpenTelemetry's conventions for generative AI."""
    start, error, reasons = record.start, record.error, record.finish_reasons
    known: dict[str, AttributeValue | None] = {
        "gen_ai.request.model": model,
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.generated_tokens,
        "gen_ai.usage.cache_read.input_tokens": None if start is None else start.cached_tokens,
        "sluice.request_id": record.request_id or None,
        "sluice.gateway": record.gateway or None,
        "sluice.rows": len(record.row_ids),
        "sluice.aborted_rows": reasons.count(ABORTED) or None,
        "sluice.session_lost": SESSION_LOST in reasons or None,
        "sluice.batch_size": record.batch_size,
        "error.type": None if error is None else error.code.value,
    }
    return {name: value for name, value in known.items() if value is not None}


def _ns(record: RequestRecord, moment: float) -> int:
    """A moment of ``time.perf_counter`` by the clock on the wall, nanoseconds since 1970."""
    return record.submitted_ns + int((moment - record.submitted) * 1e9)
