"""Streams whose worker is lost go on from another one: a pause, never an error."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat, chat_text, error_of, finish_reasons, stream

CHAT = "/v1/chat/completions"
FAKE = {"ENGINE": "fake", "FAKE_STEP_MS": "10"}
Json = dict[str, Any]


@pytest.fixture
def pair(fake_model_dir: Path) -> Iterator[tuple[Worker, Worker]]:
    with worker(fake_model_dir, **FAKE) as one, worker(fake_model_dir, **FAKE) as two:
        yield one, two


@pytest.fixture(scope="module")
def demo_pair() -> Iterator[list[Worker]]:
    """Two workers of the demo model; a test that kills one puts another in its place."""
    with worker() as one, worker() as two:
        yield [one, two]


def busy(workers: tuple[Worker, ...] | list[Worker]) -> Worker:
    """The one worker that has a row."""
    (found,) = (each for each in workers if running(each))
    return found


def running(of: Worker) -> float:
    found = re.findall(r"^sluice_num_requests_running\{.*\} (\S+)", of.metrics(), re.MULTILINE)
    return float(found[0])


def failovers(front: Gateway) -> float:
    found = re.findall(r"^sluice_failovers_total\{.*\} (\S+)", metrics(front), re.MULTILINE)
    return sum(map(float, found))


def metrics(front: Gateway) -> str:
    return httpx.get(front.url + "/metrics").text


def logprobs_of(chunks: list[Json]) -> list[tuple[str, float]]:
    """Tokens and their log-probabilities, as far as they agree whatever the batch."""
    return [
        (entry["token"], round(entry["logprob"], 3))
        for chunk in chunks
        for choice in chunk["choices"]
        for entry in (choice["logprobs"] or {"content": ()})["content"]
    ]


def disturbed(front: Gateway, workers: list[Worker], number: int, body: Json, after: int) -> Any:
    """The chunks of a stream whose worker gets the signal ``number`` after so many of them."""
    chunks = stream(front.url + CHAT, body)
    got = [next(chunks) for _ in range(after)]
    hit = busy(workers)
    hit.process.signal(number)
    got += chunks
    return hit, got


def test_a_killed_worker_does_not_break_the_stream(pair: tuple[Worker, Worker]) -> None:
    body = chat(max_tokens=300, stream_options={"include_usage": True})
    with gateway(pair[0].address, pair[1].address) as front:
        front.wait_workers(2)
        alone = list(stream(front.url + CHAT, body))
        hit, got = disturbed(front, list(pair), signal.SIGKILL, body, 20)
        assert error_of(got) is None
        assert chat_text(got) == chat_text(alone)
        assert finish_reasons(got) == finish_reasons(alone) == {0: "length"}
        assert got[-1]["usage"] == alone[-1]["usage"]
        assert failovers(front) == 1
        assert hit.process.wait() == -signal.SIGKILL


def test_whole_answers_and_many_streams_outlive_a_killed_worker(
    pair: tuple[Worker, Worker],
) -> None:
    with gateway(pair[0].address, pair[1].address) as front:
        front.wait_workers(2)
        # Long enough that none has ended when the last one has begun, on a busy machine too.
        streams = [stream(front.url + CHAT, chat(max_tokens=800 + n)) for n in range(12)]
        got = [[next(chunks)] for chunks in streams]
        pair[0].process.signal(signal.SIGKILL)
        whole = httpx.post(front.url + CHAT, json=chat(max_tokens=50, n=3), timeout=30).json()
        for chunks, mine in zip(streams, got, strict=True):
            mine += chunks
        assert len({choice["message"]["content"] for choice in whole["choices"]}) == 1
        longest = chat_text(got[-1])
        for number, mine in enumerate(got):
            assert error_of(mine) is None, number
            assert finish_reasons(mine) == {0: "length"}
            assert longest.startswith(chat_text(mine))
        assert failovers(front) == 6


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "logprobs": True, "top_logprobs": 2},
        {"temperature": 1.2, "seed": 7, "frequency_penalty": 0.6, "repetition_penalty": 1.1},
        {"temperature": 0.8, "seed": 3, "structured_outputs": {"regex": "([a-z]{1,9} ){400}end"}},
    ],
    ids=["greedy", "seeded-with-penalties", "grammar"],
)
def test_the_hf_engine_goes_on_as_if_nothing_had_happened(
    demo_pair: list[Worker], fields: Json
) -> None:
    # Long enough that the worker is found while it is at it.
    body = chat("Tell me a story", max_tokens=700, ignore_eos=True, **fields)
    with gateway(*(each.address for each in demo_pair)) as front:
        front.wait_workers(2)
        alone = list(stream(front.url + CHAT, body))
        hit, got = disturbed(front, demo_pair, signal.SIGSTOP, body, 12)
        assert error_of(got) is None
        assert chat_text(got) == chat_text(alone)
        assert finish_reasons(got) == finish_reasons(alone)
        assert logprobs_of(got) == logprobs_of(alone)
        assert failovers(front) == 1
        hit.process.signal(signal.SIGCONT)
        front.wait_workers(2)


def test_a_worker_that_hangs_loses_its_streams_and_wakes_to_none(
    pair: tuple[Worker, Worker],
) -> None:
    body = chat(max_tokens=600)
    with gateway(pair[0].address, pair[1].address) as front:
        front.wait_workers(2)
        alone = list(stream(front.url + CHAT, body))
        chunks = stream(front.url + CHAT, body)
        got = [next(chunks) for _ in range(20)]
        hit = busy(pair)
        hit.process.signal(signal.SIGSTOP)
        while not failovers(front):
            time.sleep(0.05)
        got.append(next(chunks))
        hit.process.signal(signal.SIGCONT)  # what it still sends is for rows that are no more
        got += chunks
        assert error_of(got) is None
        assert chat_text(got) == chat_text(alone)
        front.wait_workers(2)
        deadline = time.monotonic() + 10
        while any(running(each) for each in pair):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_lone_worker_that_comes_back_in_time_goes_on(fake_model_dir: Path) -> None:
    body = chat(max_tokens=300)
    with worker(fake_model_dir, **FAKE) as first:
        port = int(first.address.rpartition(":")[2])
        with gateway(first.address, FAILOVER_SECONDS="60") as front:
            alone = list(stream(front.url + CHAT, body))
            chunks = stream(front.url + CHAT, body)
            got = [next(chunks) for _ in range(10)]
            first.process.signal(signal.SIGKILL)
            first.process.wait()
            with worker(fake_model_dir, port=port, **FAKE):
                got += chunks
            assert error_of(got) is None
            assert chat_text(got) == chat_text(alone)


def test_with_nobody_left_the_stream_ends_with_an_error_in_time(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, **FAKE) as lone,
        gateway(lone.address, FAILOVER_SECONDS="1") as front,
    ):
        _, got = disturbed(front, [lone], signal.SIGKILL, chat(max_tokens=2000), 5)
        error = error_of(got)
        assert error is not None
        assert error["code"] == "worker_lost"
        assert failovers(front) == 0


def test_a_request_that_breaks_its_workers_gets_no_third_one(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, **FAKE) as one,
        worker(fake_model_dir, **FAKE) as two,
        worker(fake_model_dir, **FAKE) as three,
        gateway(one.address, two.address, three.address) as front,
    ):
        front.wait_workers(3)
        poison = list(stream(front.url + CHAT, chat('fake:{"tokens": 4, "end": "crash"}')))
        error = error_of(poison)
        assert error is not None
        assert error["code"] == "worker_lost"
        front.wait_workers(1)
        assert httpx.post(front.url + CHAT, json=chat(max_tokens=3)).status_code == 200


def test_a_worker_whose_drain_runs_out_hands_its_streams_over(fake_model_dir: Path) -> None:
    body = chat(max_tokens=400)
    with (
        worker(fake_model_dir, **FAKE | {"DRAIN_SECONDS": "0.3"}) as one,
        worker(fake_model_dir, **FAKE | {"DRAIN_SECONDS": "0.3"}) as two,
        gateway(one.address, two.address) as front,
    ):
        front.wait_workers(2)
        alone = list(stream(front.url + CHAT, body))
        hit, got = disturbed(front, [one, two], signal.SIGTERM, body, 20)
        assert error_of(got) is None
        assert chat_text(got) == chat_text(alone)
        assert hit.process.wait() == 0


def test_the_log_tells_of_the_loss_and_of_who_went_on(pair: tuple[Worker, Worker]) -> None:
    with gateway(pair[0].address, pair[1].address, LOG_FORMAT="json") as front:
        front.wait_workers(2)
        disturbed(front, list(pair), signal.SIGKILL, chat(max_tokens=100), 5)
        front.process.wait_for(r'"workers_lost": 1')
