"""Around every request: its id, its count, its line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_gateway.metrics import GatewayMetrics

log = logging.getLogger("sluice_gateway.requests")

#: A client's request id is used when it looks like one: it goes into logs and headers.
_SAFE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_QUIET = ("/health", "/health/live", "/health/ready", "/metrics")


class RequestLog:
    """ASGI middleware. Puts ``request_id`` and ``arrived`` into the scope's state.

    Also ``send_body``: the server's own ``send``. Each middleware above a route wraps ``send`` in
    a coroutine of its own, which costs a stream more per chunk than making the chunk does; what
    they want to see is only the start of an answer.
    """

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        arrived = time.perf_counter()
        scope.setdefault("state", {}).update(request_id=request_id, arrived=arrived, send_body=send)
        status = 0

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                ]
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._note(scope, status, time.perf_counter() - arrived)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "_unknown")
        self._metrics.http_requests.labels(path, str(status or "none")).inc()
        level = logging.DEBUG if path in _QUIET else logging.INFO
        log.log(
            level,
            "%s %s %s %.3fs id=%s",
            scope["method"],
            path,
            status or "no answer",
            seconds,
            scope["state"]["request_id"],
        )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            return str(value, "ascii")
    return f"req-{secrets.token_hex(12)}"
