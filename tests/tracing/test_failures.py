"""Requests that were refused, failed or were left: what their traces say of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.otlp import Span, receiver
from tests.sse import Json, chat, error_of, events, finish_reasons
from tests.tracing.traces import (
    CHAT,
    FAKE,
    Client,
    Ours,
    Trace,
    traced_gateway,
    traced_pair,
    traced_worker,
)


@pytest.fixture(scope="module")
def client(fake_model_dir: Path) -> Iterator[Client]:
    with traced_pair(fake_model_dir) as started:
        yield started


def refused(client: Client, body: Any, count: int = 1, **headers: str) -> tuple[Trace, Span, int]:
    """The trace of a request that is refused, its first span, the answer's status."""
    ours, answer = client.post(body, **headers)
    trace = client.trace(ours, count)
    trace.check()
    attributes = trace.root.attributes
    assert attributes["http.response.status_code"] == answer.status_code
    assert attributes["error.type"] == answer.json()["error"]["code"]
    assert trace.root.status == ("ERROR" if answer.status_code >= 500 else "UNSET")
    return trace, trace.root, answer.status_code


def test_what_is_no_request_is_a_span_without_a_model(client: Client) -> None:
    trace, root, status = refused(client, b"{broken")
    assert status == 400
    assert root.name == "chat"
    assert not [name for name in root.attributes if name.endswith(".model")]
    assert trace.spans == [root]


def test_a_model_that_is_not_served_is_in_no_name(client: Client) -> None:
    name = "secret-\u00fc-" * 50
    trace, root, status = refused(client, chat(model=name, max_tokens=5))
    assert status == 404
    assert root.name == "chat"
    assert root.attributes["gen_ai.request.model"] == name[:256]
    assert root.attributes["gen_ai.request.max_tokens"] == 5
    assert "gen_ai.response.model" not in root.attributes
    assert trace.spans == [root]


def test_a_prompt_that_is_too_long_went_to_no_worker(client: Client) -> None:
    _, root, status = refused(client, chat("many words " * 9000))
    assert status == 400
    assert root.attributes["error.type"] == "context_length_exceeded"
    assert "sluice.attempts" not in root.attributes


def test_what_the_worker_refuses_is_an_attempt_that_failed(client: Client) -> None:
    trace, root, status = refused(client, chat("fake:{broken"), 3)
    assert status == 400
    assert root.name == "chat fake-model"
    (attempt,) = trace.attempts
    assert attempt.attributes["sluice.outcome"] == "refused"
    assert attempt.attributes["error.type"] == "refused"
    assert attempt.status == "ERROR"


def test_without_a_key_there_is_a_span_and_no_more(fake_model_dir: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("the-key\n")
    with (
        receiver() as received,
        traced_worker(received, fake_model_dir, **FAKE) as lone,
        traced_gateway(received, lone, API_KEYS_FILE=str(keys)) as client,
    ):
        trace, root, status = refused(client, chat())
        assert status == 401
        assert trace.spans == [root]
        assert "the-key" not in str(received.spans)


def test_over_the_bound_it_is_refused_before_a_prompt_is_built(fake_model_dir: Path) -> None:
    with (
        receiver() as received,
        traced_worker(received, fake_model_dir, **FAKE, BATCH_MAX="1") as lone,
        traced_gateway(received, lone, QUEUE_MAX="0") as client,
    ):
        _, chunks = client.stream(chat(max_tokens=2000))
        next(chunks)
        trace, root, status = refused(client, chat())
        assert status == 429
        assert trace.spans == [root]
        chunks.close()  # type: ignore[attr-defined]


def test_a_model_that_loads_is_an_error_or_a_wait(fake_model_dir: Path, tmp_path: Path) -> None:
    gate = tmp_path / "load"
    with (
        receiver() as received,
        traced_worker(received, fake_model_dir, **FAKE, FAKE_LOAD_UNTIL=str(gate)) as lone,
        traced_gateway(received, lone, wait=False) as client,
    ):
        client.front.process.wait_for("loading")
        _, root, status = refused(client, chat())
        assert status == 503
        assert root.attributes["error.type"] == "model_loading"
        trace, _, status = refused(client, chat(), 2, **{"x-sluice-wait": "0.2"})
        assert status == 503
        assert trace.names_below(trace.root) == ["wait"]
        check_waited(client, ask_before_it_is_there(client, gate))


def ask_before_it_is_there(client: Client, gate: Path) -> Ours:
    """A stream that waits for its model, which loads once a comment has told of the waiting."""
    ours, body = Ours.new(), {"stream": True, **chat(max_tokens=3)}
    headers = {**ours.headers, "x-sluice-wait": "60"}
    url = client.front.url + CHAT
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60) as response:
        came = events(response.iter_lines())
        assert str(next(came)).startswith(": model_loading")
        gate.touch()
        chunks = [event for event in came if not isinstance(event, str)]
    assert finish_reasons(chunks) == {0: "length"}
    return ours


def check_waited(client: Client, ours: Ours) -> None:
    """It waited first, and was prepared then."""
    trace = client.trace(ours, 8)
    trace.check()
    (attempt,) = trace.attempts
    assert trace.names_below(trace.root) == sorted([attempt.name, "prepare", "wait"])
    (wait,) = [span for span in trace.spans if span.name == "wait"]
    (prepare,) = [span for span in trace.spans if span.name == "prepare"]
    assert wait.start_ns == trace.root.start_ns
    assert wait.end_ns <= prepare.start_ns


def test_an_error_in_mid_stream_is_one_of_the_trace(client: Client) -> None:
    ours, chunks = client.stream(chat('fake:{"tokens": 3, "end": "error"}'))
    error = error_of(list(chunks))
    assert error is not None
    trace = client.trace(ours, 7)
    trace.check()
    root = trace.root
    assert root.status == "ERROR"
    assert root.message == error["message"]
    assert root.attributes["error.type"] == error["code"]
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.response.finish_reasons" not in root.attributes
    (attempt,) = trace.attempts
    assert attempt.status == "ERROR"
    assert attempt.attributes["error.type"] == error["code"]
    assert trace.of_worker(attempt).status == "ERROR"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_no_error(client: Client, stream: bool) -> None:
    ours = leave(client, chat(max_tokens=5000), stream=stream)
    trace = client.trace(ours, 7)
    trace.check()
    root = trace.root
    assert root.status == "UNSET"
    assert root.attributes["sluice.client_left"] is True
    assert "error.type" not in root.attributes
    assert root.attributes.get("http.response.status_code") == (200 if stream else None)
    (attempt,) = trace.attempts
    assert attempt.attributes["sluice.outcome"] == "aborted"
    assert attempt.status == "UNSET"


def leave(client: Client, body: Json, *, stream: bool) -> Ours:
    """Ask, and go once a worker is at it."""
    if stream:
        ours, chunks = client.stream(body)
        for _ in range(3):  # the role, and then some of its tokens
            next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        return ours
    ours = Ours.new()
    url = client.front.url + CHAT
    with httpx.Client() as http, pytest.raises(httpx.ReadTimeout):
        http.post(url, json=body, headers=ours.headers, timeout=1)
    return ours
