"""OpenTelemetry traces: set up by its standard variables, flushed at the end.

Imported only when they are on: a gateway without traces has nothing of OpenTelemetry in memory.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterable

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_gateway import __version__
from sluice_gateway.record import RequestRecord
from sluice_gateway.request_trace import RequestTrace
from sluice_gateway.settings import OtlpProtocol, TraceSettings

log = logging.getLogger(__name__)

SERVICE_NAME = "sluice-gateway"

#: How long the last spans may take to reach their receiver when the gateway ends.
FLUSH_SECONDS = 3.0

#: What OpenTelemetry complains of, such as a receiver that is away, is told so often.
COMPLAINT_SECONDS = 60.0

#: The operations of the semantic conventions, by the route that begins them.
OPERATIONS = {"/v1/chat/completions": "chat", "/v1/completions": "text_completion"}

Headers = Iterable[tuple[bytes, bytes]]


class Tracing:
    """Makes the traces of requests, and sends them in a thread of its own."""

    def __init__(self, settings: TraceSettings) -> None:
        """``settings``: those of traces that are on."""
        _complain_seldom()
        self._content = settings.content
        self._propagator = TraceContextTextMapPropagator() if settings.takes_over else None
        self._exporters = [_exporter(name, settings.protocol) for name in settings.exporters]
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for exporter in self._exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer("sluice_gateway", __version__)

    def begin(self, operation: str, record: RequestRecord, headers: Headers) -> RequestTrace:
        """The trace of a request that has just come: the client's, if it tells of one."""
        parent = Context()
        if self._propagator is not None:
            parent = self._propagator.extract(headers, parent, _HEADERS)
        return RequestTrace(self._tracer, operation, record, parent, content=self._content)

    def around(self, route: ASGIApp, path: str) -> ASGIApp:
        """``route``, which generates, with a trace for each of its requests."""
        return _TracedRoute(self, OPERATIONS[path], route)

    async def close(self) -> None:
        """Send what has not been sent, as far as that is possible in ``FLUSH_SECONDS``."""
        flush = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        flush.start()
        await asyncio.to_thread(flush.join, FLUSH_SECONDS)
        if flush.is_alive():
            log.warning("the last traces were not taken within %g s", FLUSH_SECONDS)
            for exporter in self._exporters:
                exporter.shutdown()  # ends a call that is under way


class _TracedRoute:
    """ASGI middleware: a trace around every request, below the one that makes its record."""

    def __init__(self, tracing: Tracing, operation: str, app: ASGIApp) -> None:
        self._tracing = tracing
        self._operation = operation
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        record: RequestRecord = scope["state"]["record"]
        trace = self._tracing.begin(self._operation, record, scope["headers"])
        record.trace = trace
        fault: BaseException | None = None
        try:
            await self._app(scope, receive, send)
        except BaseException as error:
            fault = error
            raise
        finally:
            trace.end(record, scope, fault)


class _Headers(Getter[Headers]):
    """Headers as ASGI has them, for OpenTelemetry."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """All values of a header, None where there is none.

        ``traceparent`` must be there once: which of several is meant, nobody knows.
        """
        found = [str(value, "latin-1") for name, value in carrier if name == key.encode()]
        return None if not found or (key == "traceparent" and len(found) > 1) else found

    def keys(self, carrier: Headers) -> list[str]:
        """The names of all headers."""
        return [str(name, "latin-1") for name, _ in carrier]


_HEADERS = _Headers()


def _exporter(name: str, protocol: OtlpProtocol) -> SpanExporter:
    """The exporter of that name; its endpoint and the like are in the environment."""
    if name == "console":
        return ConsoleSpanExporter()
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as over_grpc

        return over_grpc.OTLPSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as over_http

    return over_http.OTLPSpanExporter()


def _resource() -> Resource:
    """What the spans come from: as the environment says, and what it leaves open."""
    known = Resource.create(
        {
            "service.name": SERVICE_NAME,
            "service.version": __version__,
            "service.instance.id": socket.gethostname(),
        }
    )
    return known.merge(OTELResourceDetector().detect())


class _SeldomHandler(logging.Handler):
    """Passes on a warning now and then: OpenTelemetry's exporters have one for every batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._due = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Log the line as this module's, unless there was one just before."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + COMPLAINT_SECONDS
            log.warning("traces: %s", record.getMessage())


def _complain_seldom() -> None:
    theirs = logging.getLogger("opentelemetry")
    theirs.propagate = False
    theirs.handlers = [_SeldomHandler()]
