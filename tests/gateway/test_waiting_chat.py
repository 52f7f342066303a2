"""Chat and completions wait for their model and then run, on the same connection."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.load_gate import LoadGate
from tests.processes import Gateway, gateway, worker
from tests.scripted_worker import scripted_worker, until_told
from tests.sse import Json, chat, chat_text, error_of, events, finish_reasons

WAIT = {"x-sluice-wait": "30"}
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


@pytest.fixture
def gate(tmp_path: Path) -> LoadGate:
    return LoadGate(tmp_path)


@pytest.fixture
def front(fake_model_dir: Path, gate: LoadGate) -> Iterator[Gateway]:
    """A gateway that knows a model, which loads until ``gate`` is opened."""
    with (
        worker(fake_model_dir, **gate.environment) as started,
        gateway(started.address, wait=False) as front,
    ):
        wait_until_known(front)
        yield front


def wait_until_known(front: Gateway) -> None:
    deadline = time.monotonic() + 30
    while not front.health()["models"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def progress(seen: list[Json | str]) -> list[Json]:
    """What the comments tell."""
    mark = ": model_loading "
    comments = [each for each in seen if isinstance(each, str)]
    return [json.loads(each.removeprefix(mark)) for each in comments if each.startswith(mark)]


def streamed(front: Gateway, path: str, body: Json, **headers: str) -> list[Json | str]:
    body = {"stream": True, "max_tokens": 5, **body}
    url = front.url + path
    with httpx.stream("POST", url, json=body, headers={**WAIT, **headers}, timeout=40) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-request-id"]
        return list(events(response.iter_lines()))


@pytest.mark.parametrize(("path", "prompt"), [(CHAT, chat()), (COMPLETIONS, {"prompt": "hi"})])
def test_a_waiting_stream_tells_the_progress_and_then_its_tokens(
    front: Gateway, gate: LoadGate, path: str, prompt: Json
) -> None:
    gate.open_after(2.5)
    seen = streamed(front, path, prompt)
    told = progress(seen)
    assert 2 <= len(told) <= 8
    assert all({"state", "bytes_done", "bytes_total", "eta_seconds"} <= set(each) for each in told)
    assert any(each["state"] == "loading" for each in told)
    chunks = [each for each in seen if not isinstance(each, str)]
    assert finish_reasons(chunks) == {0: "length"}
    assert error_of(chunks) is None
    if path == CHAT:
        assert chat_text(chunks)


@pytest.mark.parametrize(("path", "prompt"), [(CHAT, chat()), (COMPLETIONS, {"prompt": "hi"})])
def test_a_waiting_whole_answer_has_its_true_status(
    front: Gateway, gate: LoadGate, path: str, prompt: Json
) -> None:
    body = {**prompt, "max_tokens": 5}
    short = httpx.post(front.url + path, json=body, headers={"x-sluice-wait": "0.3"})
    assert short.status_code == 503
    assert short.json()["error"]["code"] == "model_loading"
    gate.open_after(0.3)
    whole = httpx.post(front.url + path, json=body, headers=WAIT, timeout=40)
    assert whole.status_code == 200
    assert whole.json()["usage"]["completion_tokens"] == 5


def test_a_stream_whose_time_is_over_ends_with_the_error_and_done(front: Gateway) -> None:
    seen = streamed(front, CHAT, chat(), **{"x-sluice-wait": "1.2"})
    assert progress(seen)
    error = error_of([each for each in seen if not isinstance(each, str)])
    assert error is not None
    assert error["code"] == "model_loading"
    assert error["loading"]["state"] in {"connecting", "resolving", "loading"}


def test_the_official_client_waits(front: Gateway, gate: LoadGate) -> None:
    gate.open_after(0.5)
    with OpenAI(base_url=front.url + "/v1", api_key="x", max_retries=0) as client:
        message: Any = {"role": "user", "content": "hi"}
        stream = client.chat.completions.create(
            model="fake-model", messages=[message], max_tokens=3, stream=True, extra_headers=WAIT
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_a_prompt_that_is_too_long_is_an_error_of_the_stream(
    front: Gateway, gate: LoadGate
) -> None:
    gate.open_after(0.5)
    seen = streamed(front, COMPLETIONS, {"prompt": [1] * 100_000})
    error = error_of([each for each in seen if not isinstance(each, str)])
    assert error is not None
    assert error["code"] == "context_length_exceeded"


def test_what_cannot_come_is_refused_before_the_stream(front: Gateway) -> None:
    body = chat(model="nobody", stream=True)
    assert httpx.post(front.url + CHAT, json=body, headers=WAIT).status_code == 404
    bad = httpx.post(front.url + CHAT, json=chat(stream=True), headers={"x-sluice-wait": "soon"})
    assert bad.status_code == 400
    assert bad.json()["error"]["param"] == "x-sluice-wait"


async def test_a_model_that_fails_ends_the_waiting_stream(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as scripted:
        scripted.say("downloading")
        with gateway(scripted.address, wait=False) as front:
            await until_told(front.url + "/health", lambda body: body["models"])
            async with httpx.AsyncClient(base_url=front.url, timeout=20) as client:
                body = chat(stream=True)
                async with client.stream("POST", CHAT, json=body, headers=WAIT) as response:
                    assert response.status_code == 200
                    lines = response.aiter_lines()
                    assert (await anext(lines)).startswith(": model_loading ")
                    scripted.say("failed", message="no space")
                    seen = list(events(iter([line async for line in lines])))
            error = error_of([each for each in seen if not isinstance(each, str)])
            assert error is not None
            assert error["code"] == "model_failed"
            assert "no space" in error["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_the_wait_for_a_model_is_not_counted_as_time_to_first_token(
    front: Gateway, gate: LoadGate, *, stream: bool
) -> None:
    body = chat(max_tokens=5, stream=stream)
    gate.open_after(2.5)
    answer = httpx.post(front.url + CHAT, json=body, headers=WAIT, timeout=40)
    assert answer.status_code == 200
    metrics = httpx.get(f"{front.url}/metrics").text
    for name in ("sluice_time_to_first_token_seconds", "sluice_e2e_request_latency_seconds"):
        (total,) = (line for line in metrics.splitlines() if line.startswith(f"{name}_sum"))
        # The wait is longer than two seconds; a token of the fake engine takes milliseconds.
        assert 0 < float(total.split()[-1]) < 2


@pytest.mark.parametrize("stream", [True, False])
def test_all_who_waited_are_served_in_the_end_though_the_worker_has_room_for_few(
    fake_model_dir: Path, gate: LoadGate, *, stream: bool
) -> None:
    narrow = {"BATCH_MAX": "1", "QUEUE_MAX": "1", "FAKE_STEP_MS": "20", **gate.environment}
    with (
        worker(fake_model_dir, **narrow) as started,
        gateway(started.address, wait=False) as front,
        ThreadPoolExecutor(8) as pool,
    ):
        body = chat(max_tokens=5, stream=stream)
        wait_until_known(front)
        gate.open_after(1.0)
        ask = partial(httpx.post, front.url + CHAT, json=body, headers=WAIT, timeout=40)
        answers = [each.result() for each in [pool.submit(ask) for _ in range(8)]]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert "overloaded" not in answer.text
        assert '"finish_reason":"length"' in answer.text
