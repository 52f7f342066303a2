"""How long the parts of a request took, as its client is told when it asks."""

from __future__ import annotations

from typing import Any

from sluice_gateway.record import RequestRecord


def timings_json(record: RequestRecord) -> dict[str, Any]:
    """For the last chunk of a stream. Seconds; null where a worker did not tell."""
    found = {
        "gateway_seconds": record.gateway_seconds,
        "queue_seconds": record.queue_seconds,
        "prefill_seconds": record.prefill_seconds,
        "time_to_first_token_seconds": record.time_to_first_token,
        "total_seconds": record.seconds,
        "batch_size": record.batch_size,
        "worker": record.worker or None,
        "workers_lost": sum(attempt.outcome == "lost" for attempt in record.attempts),
    }
    return {
        key: round(value, 6) if isinstance(value, float) else value for key, value in found.items()
    }


def server_timing(record: RequestRecord) -> bytes:
    """The value of the header ``Server-Timing`` (W3C): durations in milliseconds."""
    parts = {
        "gateway": record.gateway_seconds,
        "queue": record.queue_seconds,
        "prefill": record.prefill_seconds,
        "decode": record.decode_seconds,
        "total": record.seconds,
    }
    told = (
        f"{name};dur={seconds * 1e3:.3f}" for name, seconds in parts.items() if seconds is not None
    )
    return ", ".join(told).encode()
