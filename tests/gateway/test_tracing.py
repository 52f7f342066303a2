"""The parts of tracing that no request from outside reaches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.errors import InternalError, InvalidRequest
from sluice_gateway.generation import Generation, Signal
from sluice_gateway.record import RequestRecord
from sluice_gateway.settings import TraceSettings
from sluice_gateway.tracing import Tracing
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.otlp import Receiver, Span, receiver

CHAT = "/v1/chat/completions"


async def traced(received: Receiver, app: ASGIApp, record: RequestRecord) -> list[Span]:
    """The spans of one request to ``app``, which may fail."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in received.environment.items():
            patch.setenv(name, value)
        tracing = Tracing(TraceSettings())
    scope = {
        "type": "http",
        "path": CHAT,
        "scheme": "http",
        "headers": [],
        "state": {"record": record},
    }
    try:
        await tracing.around(app, CHAT)(scope, _nothing, _nothing)
    finally:
        await tracing.close()
    return received.spans


async def _nothing(*_: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize("status", [0, 200], ids=["before-the-answer", "in-mid-stream"])
async def test_a_fault_of_the_gateway_is_an_error_of_the_span(status: int) -> None:
    record = RequestRecord("r", method="POST")

    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        record.status = status
        raise ZeroDivisionError("not for the receiver")

    with receiver() as received:
        with pytest.raises(ZeroDivisionError):
            await traced(received, faulty, record)
        (span,) = received.spans
    assert span.status == "ERROR"
    assert span.message == span.attributes["error.type"] == "ZeroDivisionError"
    assert span.attributes["http.response.status_code"] == (status or 500)
    assert "not for the receiver" not in str(span)


async def test_what_is_no_text_is_not_the_end_of_the_other_spans() -> None:
    record = RequestRecord("r", method="POST", status=500)
    record.error = InternalError("of \ud800 all things")

    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        record.error = InternalError("of \ud800 all things")

    with receiver() as received:
        (span,) = await traced(received, refuses, record)
    assert span.message == "of ? all things"


async def test_an_error_of_the_client_s_in_mid_stream_is_an_error() -> None:
    record = RequestRecord("r", method="POST", status=200)

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        record.note_first_token(None)
        record.error = InvalidRequest("It cannot go on.")

    with receiver() as received:
        (span,) = await traced(received, fails, record)
    assert span.status == "ERROR"


async def test_attempts_that_go_on_and_on_end_their_spans_and_get_no_more() -> None:
    record = RequestRecord("r", method="POST", status=503)
    generation = Generation([1], pb.SamplingParams(max_tokens=1), [0], Signal())
    contexts = []

    async def tries(scope: Scope, receive: Receive, send: Send) -> None:
        before = None
        for number in range(200):
            attempt = record.attempt(f"worker-{number}")
            assert record.trace is not None
            record.trace.attempt(generation, attempt, before)
            contexts.append(generation.traceparent)
            attempt.end("refused")
            before = attempt
        await asyncio.sleep(0)

    with receiver() as received:
        spans = await traced(received, tries, record)
    (root,) = [span for span in spans if span.kind == "SERVER"]
    attempts = sorted((s for s in spans if s.kind == "CLIENT"), key=lambda s: s.start_ns)
    assert [span.name for span in attempts] == [f"generate worker-{n}" for n in range(64)]
    assert [span.links for span in attempts[1:]] == [(span.span_id,) for span in attempts[:-1]]
    # What has no span of its own is below the request's.
    own = [*(span.span_id for span in attempts), *[root.span_id] * (200 - 64)]
    assert [context.split("-")[2] for context in contexts] == own
    assert root.attributes["sluice.attempts"] == 200
