"""What all streams of server-sent events have in common."""

from __future__ import annotations

from sluice_gateway.errors import ApiError

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def error_event(error: ApiError) -> bytes:
    """The last of a stream that fails."""
    return b"data: " + error.body() + b"\n\n" + DONE
