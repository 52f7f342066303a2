"""A request's line in the log, as fields. What was said is not among them, unless asked for."""

from __future__ import annotations

from typing import Any

from sluice_gateway.record import RequestRecord

_PLACES = 6  # of seconds: microseconds


def message(record: RequestRecord) -> str:
    """What happened, in short."""
    return f"{record.method} {record.route} {record.status or 'no answer'}"


def fields(record: RequestRecord) -> dict[str, Any]:
    """All that is known of the request; a field that has nothing to say is left out."""
    known = {
        "request_id": record.request_id,
        "method": record.method,
        "route": record.route,
        "status": record.status,
        "seconds": record.seconds,
        **_of_generation(record),
        "error": record.error and (record.error.code or record.error.type),
        "param": record.error and record.error.param,
        "client_left": record.disconnected or None,
        "trace_id": record.trace_id,
        "prompts": record.prompts or None,
        "answers": record.answers or None,
    }
    return {name: _rounded(value) for name, value in known.items() if value not in (None, "")}


def _of_generation(record: RequestRecord) -> dict[str, Any]:
    if not record.model:
        return {}
    usage = record.usage
    lost = sum(attempt.outcome == "lost" for attempt in record.attempts)
    return {
        "model": record.model,
        "worker": record.worker,
        "workers_lost": lost or None,
        "stream": record.stream,
        "choices": record.choices,
        "prompt_tokens": usage and usage.prompt_tokens,
        "cached_tokens": usage and usage.cached_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "reasoning_tokens": usage and usage.reasoning_tokens,
        "waited_seconds": record.waited_seconds or None,
        "time_to_first_token": record.time_to_first_token,
        "gateway_seconds": record.gateway_seconds,
        "queue_seconds": record.queue_seconds,
        "prefill_seconds": record.prefill_seconds,
        "batch_size": record.batch_size,
        "finish_reason": ",".join(reason or "none" for reason in record.finish_reasons),
    }


def _rounded(value: Any) -> Any:
    return round(value, _PLACES) if isinstance(value, float) else value
