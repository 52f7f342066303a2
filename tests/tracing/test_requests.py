"""One trace for each request, through the gateway and the workers that take part in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.otlp import receiver
from tests.sse import chat, error_of, finish_reasons
from tests.tracing.traces import (
    COMPLETIONS,
    Client,
    Trace,
    traced_gateway,
    traced_pair,
    traced_worker,
)

#: The gateway's own, prepare, generate, and of the worker generate, queue, prefill, decode.
SPANS = 7


@pytest.fixture(scope="module")
def client(fake_model_dir: Path) -> Iterator[Client]:
    with traced_pair(fake_model_dir) as started:
        yield started


def check_one_attempt(trace: Trace, model: str) -> dict[str, Any]:
    """The trace of a request that one worker answered; the attributes of its first span."""
    trace.check()
    root = trace.root
    assert root.status == "UNSET"
    (attempt,) = trace.attempts
    assert attempt.name.startswith("generate ")
    assert attempt.attributes["sluice.outcome"] == "done"
    assert attempt.status == "UNSET"
    assert trace.names_below(root) == sorted(["prepare", attempt.name])
    of_worker = trace.of_worker(attempt)
    assert of_worker.name == f"generate {model}"
    assert trace.names_below(of_worker) == ["decode", "prefill", "queue"]
    assert len(trace.spans) == SPANS
    return root.attributes


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_stream_is_one_trace_of_both_processes(fake_model_dir: Path, protocol: str) -> None:
    with traced_pair(fake_model_dir, protocol) as client:
        body = chat(max_tokens=5, temperature=0.5, top_p=0.9, seed=7)
        ours, chunks = client.stream(body, **{"x-request-id": "mine", "tracestate": "a=b,c=d"})
        got = list(chunks)
        trace = client.trace(ours, SPANS)
        attributes = check_one_attempt(trace, "fake-model")
        assert trace.root.name == "chat fake-model"
        assert {span.trace_state for span in trace.spans} == {"a=b,c=d"}
        assert isinstance(attributes.pop("gen_ai.response.time_to_first_chunk"), float)
        assert attributes == {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "sluice",
            "gen_ai.request.model": "fake-model",
            "gen_ai.request.stream": True,
            "gen_ai.request.max_tokens": 5,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_p": 0.9,
            "gen_ai.request.seed": 7,
            "gen_ai.response.id": got[0]["id"],
            "gen_ai.response.model": "fake-model",
            "gen_ai.response.finish_reasons": ["length"],
            "gen_ai.usage.input_tokens": 20,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 0,
            "gen_ai.usage.reasoning.output_tokens": 0,
            "http.request.method": "POST",
            "http.route": "/v1/chat/completions",
            "http.response.status_code": 200,
            "url.path": "/v1/chat/completions",
            "url.scheme": "http",
            "sluice.request_id": "mine",
            "sluice.attempts": 1,
            "sluice.batch_size": 1.0,
        }


def test_the_hf_engine_s_work_is_in_the_trace() -> None:
    with (
        receiver() as received,
        traced_worker(received, NUM_THREADS="1") as lone,
        traced_gateway(received, lone) as client,
    ):
        ours, chunks = client.stream(chat("Hello", max_tokens=20, temperature=0))
        assert error_of(list(chunks)) is None
        trace = client.trace(ours, SPANS)
        attributes = check_one_attempt(trace, "sluice-demo")
        of_worker = trace.of_worker(trace.attempts[0])
        for name in ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"):
            assert of_worker.attributes[name] == attributes[name] > 0
        names = [span.name for span in trace.spans if span.service == "sluice-worker"]
        assert sorted(names) == ["decode", "generate sluice-demo", "prefill", "queue"]


def test_a_whole_answer_has_the_trace_of_a_stream(client: Client) -> None:
    ours, answer = client.post(chat(max_tokens=3))
    attributes = check_one_attempt(client.trace(ours, SPANS), "fake-model")
    assert attributes["gen_ai.response.id"] == answer.json()["id"]
    assert attributes["gen_ai.request.stream"] is False
    assert attributes["http.response.status_code"] == 200


def test_two_choices_are_one_attempt_of_two_rows(client: Client) -> None:
    ours, chunks = client.stream(chat(max_tokens=4, n=2))
    assert len(finish_reasons(list(chunks))) == 2
    attributes = check_one_attempt(client.trace(ours, SPANS), "fake-model")
    assert attributes["gen_ai.request.choice.count"] == 2
    assert attributes["gen_ai.response.finish_reasons"] == ["length", "length"]
    assert attributes["gen_ai.usage.output_tokens"] == 8


def test_each_of_several_prompts_is_an_attempt(client: Client) -> None:
    ours, answer = client.post({"prompt": ["a", "b", "c"], "max_tokens": 2}, COMPLETIONS)
    assert answer.status_code == 200
    trace = client.trace(ours, 2 + 3 * 5)
    trace.check()
    assert trace.root.name == "text_completion fake-model"
    assert trace.root.attributes["gen_ai.operation.name"] == "text_completion"
    assert len(trace.attempts) == 3
    for attempt in trace.attempts:
        assert trace.names_below(trace.of_worker(attempt)) == ["decode", "prefill", "queue"]
    assert len(trace.spans) == 2 + 3 * 5


def test_of_very_many_prompts_the_first_have_spans_of_their_own(client: Client) -> None:
    ours, answer = client.post({"prompt": ["a"] * 100, "max_tokens": 2}, COMPLETIONS)
    assert answer.status_code == 200
    trace = client.trace(ours, 2 + 64 + 4 * 100)
    trace.check()
    assert len(trace.attempts) == 64
    assert trace.root.attributes["sluice.attempts"] == 100


def test_spans_and_events_do_not_grow_with_the_tokens(client: Client) -> None:
    counts = []
    for tokens in (2, 150):
        ours, chunks = client.stream(chat(max_tokens=tokens))
        assert finish_reasons(list(chunks)) == {0: "length"}
        later, _ = client.post(chat(max_tokens=1))
        client.trace(later, SPANS)  # what was sent before it has come
        spans = client.trace(ours, SPANS).spans
        counts.append((len(spans), sum(len(span.events) for span in spans)))
    assert counts == [counts[0]] * 2
    assert counts[0][0] == SPANS


def test_what_does_not_generate_has_no_span(client: Client) -> None:
    before = {span.trace_id for span in client.received.spans}
    for path in ("/", "/health", "/health/live", "/health/ready", "/metrics", "/v1/models"):
        assert httpx.get(client.front.url + path).status_code == 200
    assert httpx.get(client.front.url + "/v1/chat/completions").status_code == 405
    _, answer = client.post({"prompt": "hi"}, "/tokenize")
    assert answer.status_code == 200
    ours, _ = client.post(chat(max_tokens=1))
    spans = client.trace(ours, SPANS).spans
    assert {span.trace_id for span in client.received.spans} - before == {spans[0].trace_id}


def test_a_request_without_a_trace_begins_one(client: Client) -> None:
    answer = httpx.post(client.front.url + "/v1/chat/completions", json=chat(max_tokens=1))
    assert "traceparent" not in answer.headers
    root = client.root_of(answer.headers["x-request-id"])
    assert root.name == "chat fake-model"
    assert not root.parent_id
