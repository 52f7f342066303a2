"""A receiver of OpenTelemetry traces, over gRPC and over HTTP: it keeps the spans that come."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

KINDS = {
    number: name.removeprefix("SPAN_KIND_") for name, number in trace_pb2.Span.SpanKind.items()
}
STATUSES = {
    number: name.removeprefix("STATUS_CODE_")
    for name, number in trace_pb2.Status.StatusCode.items()
}


@dataclass(frozen=True)
class Span:
    """One span. Ids are hex digits, ``parent_id`` empty for the first of a trace.

    ``kind`` is ``SERVER``, ``CLIENT``, ``INTERNAL``; ``status`` is ``UNSET``, ``OK``, ``ERROR``.
    """

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    status: str
    message: str
    trace_state: str
    attributes: dict[str, Any]
    links: tuple[str, ...]  # span ids
    events: tuple[str, ...]  # names
    resource: dict[str, Any]

    @property
    def service(self) -> str:
        """The ``service.name`` of the process that it comes from."""
        return str(self.resource["service.name"])


@dataclass
class Receiver:
    """What came so far. ``environment`` sends a process's traces here, each span at once."""

    environment: dict[str, str]
    spans: list[Span] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, request: service_pb.ExportTraceServiceRequest) -> None:
        """Keep the spans of an export."""
        with self.changed:
            self.spans += _spans_of(request)
            self.changed.notify_all()

    def wait_for(self, found: Callable[[list[Span]], Any], seconds: float = 30.0) -> list[Span]:
        """Wait until the spans are as ``found`` wants them; all of them."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not found(self.spans):
                left = deadline - time.monotonic()
                assert left > 0, f"not within {seconds} s in: {shown(self.spans)}"
                self.changed.wait(left)
            return list(self.spans)

    def named(self, name: str, count: int = 1, seconds: float = 30.0) -> list[Span]:
        """The spans of that name, as soon as there are so many."""
        spans = self.wait_for(
            lambda spans: sum(span.name == name for span in spans) >= count, seconds
        )
        return [span for span in spans if span.name == name]


def shown(spans: list[Span]) -> str:
    """The latest spans, for a test's message."""
    return "\n".join(
        f"{span.service}: {span.name} {span.kind} {span.status} {span.attributes}"
        f" trace {span.trace_id} span {span.span_id} parent {span.parent_id}"
        for span in spans[-20:]
    )


@contextlib.contextmanager
def receiver(protocol: str = "grpc") -> Iterator[Receiver]:
    """A receiver for ``grpc`` or ``http/protobuf`` that listens while entered."""
    serving = _over_grpc if protocol == "grpc" else _over_http
    received = Receiver(
        {
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
    )
    with serving(received) as port:
        received.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
        yield received


class _Service(service_grpc.TraceServiceServicer):
    def __init__(self, received: Receiver) -> None:
        self._received = received

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._received.take(request)
        return service_pb.ExportTraceServiceResponse()


@contextlib.contextmanager
def _over_grpc(received: Receiver) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2))
    service_grpc.add_TraceServiceServicer_to_server(_Service(received), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def _over_http(received: Receiver) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            received.take(service_pb.ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans_of(request: service_pb.ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield Span(
                    name=span.name,
                    kind=KINDS[span.kind],
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    status=STATUSES[span.status.code],
                    message=span.status.message,
                    trace_state=span.trace_state,
                    attributes=_attributes(span.attributes),
                    links=tuple(link.span_id.hex() for link in span.links),
                    events=tuple(event.name for event in span.events),
                    resource=resource,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: common_pb2.AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind else None
