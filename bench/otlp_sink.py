"""``python -m bench.otlp_sink``: takes traces over gRPC and drops them, counted."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc


class _Sink(pb_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.spans = 0

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> Any:  # noqa: N802
        """OTLP's one call."""
        for resource in request.resource_spans:
            self.spans += sum(len(scope.spans) for scope in resource.scope_spans)
        return pb.ExportTraceServiceResponse()


def main() -> None:
    """Serve until SIGTERM; then print how many spans came."""
    sink = _Sink()
    server = grpc.server(ThreadPoolExecutor(1))
    pb_grpc.add_TraceServiceServicer_to_server(sink, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    print(f"listening on 127.0.0.1:{port}", flush=True)
    stopped.wait()
    server.stop(1).wait()
    print(f"{sink.spans} spans", flush=True)


if __name__ == "__main__":
    main()
