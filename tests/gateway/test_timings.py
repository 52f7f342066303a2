"""How long the parts of a request took, as its client is told."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Gateway, gateway, worker
from tests.sse import chat, stream

CHAT = "/v1/chat/completions"
ASKED = {"include_usage": True, "include_timings": True}


@pytest.fixture(scope="module")
def front(fake_model_dir: Path) -> Iterator[Gateway]:
    options = {"ENGINE": "fake", "FAKE_STEP_MS": "5", "BATCH_MAX": "4"}
    with worker(fake_model_dir, **options) as fake, gateway(fake.address) as started:
        yield started


def durations(header: str) -> dict[str, float]:
    found = re.findall(r"(\w+);dur=([0-9.]+)", header)
    return {name: float(value) for name, value in found}


def test_a_whole_answer_tells_in_a_header(front: Gateway) -> None:
    answer = httpx.post(front.url + CHAT, json=chat(max_tokens=20))
    told = durations(answer.headers["server-timing"])
    assert list(told) == ["gateway", "queue", "prefill", "decode", "total"]
    assert sum(told.values()) - told["total"] == pytest.approx(told["total"], abs=0.5)
    assert told["decode"] > 18 * 5  # the engine keeps its pace, the ways to here do not


def test_the_last_chunk_of_a_stream_tells_when_asked(front: Gateway) -> None:
    chunks = list(stream(front.url + CHAT, chat(max_tokens=20, n=3, stream_options=ASKED)))
    told = chunks[-1]["timings"]
    assert all("timings" not in chunk for chunk in chunks[:-1])
    assert told["batch_size"] == 3
    assert told["worker"] == socket.gethostname()
    assert told["workers_lost"] == 0
    parts = ("gateway_seconds", "queue_seconds", "prefill_seconds")
    total = sum(told[part] for part in parts)
    assert total == pytest.approx(told["time_to_first_token_seconds"], abs=1e-4)
    assert told["total_seconds"] - told["time_to_first_token_seconds"] > 18 * 0.005


def test_completions_tell_it_too(front: Gateway) -> None:
    body: dict[str, Any] = {"prompt": ["a", "b"], "max_tokens": 3, "stream_options": ASKED}
    *_, last = stream(front.url + "/v1/completions", body)
    assert last["timings"]["batch_size"] > 0


def test_one_who_waits_in_the_workers_queue_is_told_so(front: Gateway) -> None:
    running = [stream(front.url + CHAT, chat(max_tokens=60)) for _ in range(4)]
    for chunks in running:
        next(chunks)
    *_, last = stream(front.url + CHAT, chat(max_tokens=2, stream_options=ASKED))
    assert last["timings"]["queue_seconds"] > last["timings"]["prefill_seconds"]
    for chunks in running:
        list(chunks)


def test_timings_without_usage_are_refused_by_name(front: Gateway) -> None:
    body = chat(stream=True, stream_options={"include_timings": True})
    answer = httpx.post(front.url + CHAT, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "stream_options.include_timings"
