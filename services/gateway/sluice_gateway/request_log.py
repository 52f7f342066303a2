"""Around every request: its id, its count, its line in the log."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_gateway.logs import DETAILS
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.record import RequestRecord
from sluice_gateway.request_line import fields, message

log = logging.getLogger("sluice_gateway.requests")

#: A client's request id is used when it looks like one: it goes into logs and headers.
_SAFE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

_QUIET = ("/health", "/health/live", "/health/ready", "/metrics")


class RequestLog:
    """ASGI middleware. Puts the request's ``record`` into the scope's state.

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
        record = RequestRecord(_request_id(scope), method=scope["method"])
        scope.setdefault("state", {}).update(record=record, send_body=send)

        def send_with_id(event: Message) -> Awaitable[None]:
            if event["type"] == "http.response.start":
                record.status = event["status"]
                event["headers"] = [
                    *event.get("headers", ()),
                    (b"x-request-id", record.request_id.encode()),
                ]
            return send(event)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            record.ended = time.perf_counter()
            record.route = getattr(scope.get("route"), "path", "_unknown")
            self._note(record)

    def _note(self, record: RequestRecord) -> None:
        self._metrics.count_http_request(record.route, record.status)
        level = logging.DEBUG if record.route in _QUIET else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "%s", message(record), extra={DETAILS: fields(record)})


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            return str(value, "ascii")
    return f"req-{secrets.token_hex(12)}"
