"""One request's trace, as its client and the receiver see it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.otlp import Receiver, Span, receiver, shown
from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import Json, stream

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
FAKE = {"ENGINE": "fake", "FAKE_STEP_MS": "10"}


@dataclass
class Client:
    """A client that has a trace of its own, and begins each request in a new one."""

    front: Gateway
    received: Receiver

    def stream(self, body: Json, path: str = CHAT, **headers: str) -> tuple[Ours, Iterator[Json]]:
        """Begin a stream."""
        ours = Ours.new()
        return ours, stream(self.front.url + path, body, headers={**ours.headers, **headers})

    def post(self, body: Any, path: str = CHAT, **headers: str) -> tuple[Ours, httpx.Response]:
        """Ask for a whole answer; ``body``: JSON, or the bytes of what is none."""
        ours = Ours.new()
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
        headers = {**ours.headers, **headers}
        return ours, httpx.post(self.front.url + path, headers=headers, timeout=30, **given)

    def trace(self, ours: Ours, count: int) -> Trace:
        """The spans of a request's trace as soon as there are so many of them."""

        def mine(spans: list[Span]) -> list[Span]:
            return [span for span in spans if span.trace_id == ours.trace_id]

        spans = self.received.wait_for(lambda spans: len(mine(spans)) >= count)
        return Trace(ours, mine(spans))

    def root_of(self, request_id: str) -> Span:
        """The gateway's span of a request, by its id."""

        def roots(spans: list[Span]) -> list[Span]:
            ours = [span for span in spans if span.service == "sluice-gateway"]
            return [s for s in ours if s.attributes.get("sluice.request_id") == request_id]

        (found,) = roots(self.received.wait_for(roots))
        return found


@dataclass(frozen=True)
class Ours:
    """The client's own span, in which it asks."""

    trace_id: str
    span_id: str

    @classmethod
    def new(cls) -> Ours:
        """Of a trace that nobody else has."""
        return cls(secrets.token_hex(16), secrets.token_hex(8))

    @property
    def headers(self) -> dict[str, str]:
        """What tells the gateway of it: it is sampled."""
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-01"}


@dataclass(frozen=True)
class Trace:
    """All spans of one trace."""

    ours: Ours
    spans: list[Span]

    @property
    def root(self) -> Span:
        """The gateway's span of the request, which is below the client's own."""
        (found,) = self.below(self.ours.span_id)
        assert found.service == "sluice-gateway"
        assert found.kind == "SERVER"
        return found

    @property
    def attempts(self) -> list[Span]:
        """The gateway's spans of attempts on workers, in their order."""
        found = [span for span in self.below(self.root.span_id) if span.kind == "CLIENT"]
        return sorted(found, key=lambda span: span.start_ns)

    def of_worker(self, attempt: Span) -> Span:
        """The worker's own span of an attempt."""
        (found,) = self.below(attempt.span_id)
        assert found.service == "sluice-worker"
        assert found.kind == "SERVER"
        return found

    def below(self, span_id: str) -> list[Span]:
        """The children of a span."""
        return [span for span in self.spans if span.parent_id == span_id]

    def names_below(self, span: Span) -> list[str]:
        """The names of its children, in the order of the alphabet."""
        return sorted(each.name for each in self.below(span.span_id))

    def check(self) -> None:
        """It hangs together, and no child of the gateway's leaves its parent's time."""
        by_id = {span.span_id: span for span in self.spans}
        assert len(by_id) == len(self.spans), shown(self.spans)
        for span in self.spans:
            assert span.start_ns <= span.end_ns, shown([span])
            if span.parent_id == self.ours.span_id:
                continue
            parent = by_id.get(span.parent_id)
            assert parent is not None, shown(self.spans)
            if parent.service == span.service == "sluice-gateway":
                assert parent.start_ns <= span.start_ns, shown(self.spans)
                assert span.end_ns <= parent.end_ns, shown(self.spans)


@contextlib.contextmanager
def traced_worker(
    received: Receiver, model: str | Path = "demo", **settings: str
) -> Iterator[Worker]:
    """A worker that sends its traces to the receiver."""
    with worker(model, **received.environment, **settings) as started:
        yield started


@contextlib.contextmanager
def traced_gateway(
    received: Receiver, *workers: Worker, wait: bool = True, **settings: str
) -> Iterator[Client]:
    """A gateway that does, and a client before it."""
    addresses = [each.address for each in workers]
    with gateway(*addresses, wait=wait, **received.environment, **settings) as front:
        if wait:
            front.wait_workers(len(workers))
        yield Client(front, received)


@contextlib.contextmanager
def traced_pair(model: Path, protocol: str = "grpc", **settings: str) -> Iterator[Client]:
    """A receiver, a worker with the fake engine, and a gateway with these settings."""
    with (
        receiver(protocol) as received,
        traced_worker(received, model, **FAKE) as lone,
        traced_gateway(received, lone, **settings) as client,
    ):
        yield client
