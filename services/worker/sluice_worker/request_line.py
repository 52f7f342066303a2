"""A request's line in the log, as fields. Neither prompts nor what was generated are in it."""

from __future__ import annotations

import logging
from typing import Any

from sluice_worker.logs import DETAILS
from sluice_worker.request_record import RequestRecord

log = logging.getLogger("sluice_worker.requests")

_PLACES = 6  # of seconds: microseconds


def write_line(record: RequestRecord) -> None:
    """Log that the request has ended. One that was refused has its line from who refused it."""
    if not record.refused and log.isEnabledFor(logging.INFO):
        log.info("request ended", extra={DETAILS: fields(record)})


def fields(record: RequestRecord) -> dict[str, Any]:
    """All that is known of the request; a field that has nothing to say is left out."""
    start = record.start
    known = {
        "request_id": record.request_id,
        "gateway": record.gateway,
        "adapter": record.adapter,
        "rows": len(record.row_ids),
        "prompt_tokens": record.prompt_tokens,
        "cached_tokens": start and start.cached_tokens,
        "generated_tokens": record.generated_tokens,
        "queue_seconds": start and start.queue_seconds,
        "prefill_seconds": start and start.prefill_seconds,
        "decode_seconds": record.decode_seconds,
        "batch_size": record.batch_size,
        "finish_reason": ",".join(record.finish_reasons),
        "error": record.error and record.error.code.value,
        "trace_id": record.trace_id,
    }
    return {name: _rounded(value) for name, value in known.items() if value not in (None, "")}


def _rounded(value: Any) -> Any:
    return round(value, _PLACES) if isinstance(value, float) else value
