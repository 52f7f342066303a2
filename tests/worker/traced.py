"""A session with a worker that is a process, and requests in traces of their own."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sluice.worker.v1 import worker_pb2 as pb

from tests.otlp import Receiver, Span
from tests.processes import Worker
from tests.worker.sessions import Client, submit

#: Longer than any test lasts.
ENDLESS = pb.SamplingParams(max_tokens=5000, top_p=1, repetition_penalty=1)


@dataclass(frozen=True)
class Parent:
    """The gateway's span that a request is below."""

    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def sampled(self) -> str:
        """``traceparent`` of a trace that is sampled."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    @property
    def unsampled(self) -> str:
        """``traceparent`` of one that is not."""
        return f"00-{self.trace_id}-{self.span_id}-00"


@contextlib.asynccontextmanager
async def session(worker: Worker) -> AsyncIterator[Client]:
    """An open session with a worker whose model is ready."""
    client = Client(int(worker.address.rpartition(":")[2]))
    try:
        await client.open()
        await client.until_ready()
        yield client
    finally:
        await client.channel.close()


async def finished(client: Client, parent: str = "", row_id: int = 1, **changes: object) -> None:
    """Ask, and take all tokens of the row."""
    await client.call.write(submit(row_id, traceparent=parent, **changes))
    await client.tokens(row_id)


@dataclass(frozen=True)
class Trace:
    """A request's spans on the worker."""

    request: Span
    parts: list[Span]

    @property
    def names(self) -> list[str]:
        """Those of its parts, as they came one after the other."""
        return [part.name for part in self.parts]

    def check(self, parent: Parent) -> None:
        """It is below its parent, and its parts follow each other within its time."""
        request = self.request
        assert (request.kind, request.trace_id) == ("SERVER", parent.trace_id)
        assert request.parent_id == parent.span_id
        moment = request.start_ns
        for part in self.parts:
            assert (part.kind, part.trace_id) == ("INTERNAL", parent.trace_id)
            assert part.parent_id == request.span_id
            assert moment <= part.start_ns <= part.end_ns
            moment = part.end_ns
        assert moment <= request.end_ns


def trace_of(received: Receiver, parent: Parent) -> Trace:
    """The spans below ``parent``, as soon as that of the request has come: it comes last."""

    def requests(spans: list[Span]) -> list[Span]:
        return [span for span in spans if span.parent_id == parent.span_id]

    spans = received.wait_for(requests)
    (request,) = requests(spans)
    parts = [span for span in spans if span.parent_id == request.span_id]
    return Trace(request, sorted(parts, key=lambda span: (span.start_ns, span.end_ns)))
