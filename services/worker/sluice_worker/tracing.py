"""OpenTelemetry traces: set up by its standard variables, flushed at the end.

Imported only when they are on: a worker without traces has nothing of OpenTelemetry in memory.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time

from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sluice_worker import __version__
from sluice_worker.request_record import RequestRecord
from sluice_worker.request_trace import show_request
from sluice_worker.trace_settings import OtlpProtocol, TraceSettings

log = logging.getLogger(__name__)

SERVICE_NAME = "sluice-worker"

#: How long the last spans may take to reach their receiver when the worker ends.
FLUSH_SECONDS = 3.0

#: What OpenTelemetry complains of, such as a receiver that is away, is told so often.
COMPLAINT_SECONDS = 60.0


class Tracing:
    """Makes the traces of requests that have ended, and sends them in a thread of its own."""

    def __init__(self, settings: TraceSettings, model_name: str) -> None:
        """``settings``: those of traces that are on."""
        _complain_seldom()
        self._model_name = model_name
        self._propagator = TraceContextTextMapPropagator()
        self._exporters = [_exporter(name, settings.protocol) for name in settings.exporters]
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        for exporter in self._exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sluice_worker", __version__)

    def show(self, record: RequestRecord) -> None:
        """Add what became of a request to its trace. One without a trace has none here either."""
        given = {"traceparent": record.traceparent, "tracestate": record.tracestate}
        parent = self._propagator.extract(given, Context())
        if get_current_span(parent).get_span_context().is_valid:
            show_request(self._tracer, parent, record.adapter or self._model_name, record)

    async def close(self) -> None:
        """Send what has not been sent, as far as that is possible in ``FLUSH_SECONDS``."""
        flush = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        flush.start()
        await asyncio.to_thread(flush.join, FLUSH_SECONDS)
        if flush.is_alive():
            log.warning("the last traces were not taken within %g s", FLUSH_SECONDS)
            for exporter in self._exporters:
                exporter.shutdown()  # ends a call that is under way


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
