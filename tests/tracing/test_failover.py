"""A request whose worker is lost: one trace, an attempt on each worker, the second linked."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.otlp import Receiver, receiver
from tests.processes import Worker
from tests.sse import chat, error_of, finish_reasons
from tests.tracing.traces import FAKE, Client, Trace, traced_gateway, traced_worker


@pytest.fixture
def received() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


@contextmanager
def pair(received: Receiver, model: Path, **settings: str) -> Iterator[list[Worker]]:
    with (
        traced_worker(received, model, **FAKE, **settings) as one,
        traced_worker(received, model, **FAKE, **settings) as two,
    ):
        yield [one, two]


def disturbed(client: Client, workers: list[Worker], number: int, count: int) -> Trace:
    """The trace of a stream whose worker got a signal in its middle."""
    ours, chunks = client.stream(chat(max_tokens=200))
    got = [next(chunks) for _ in range(10)]
    (hit,) = [each for each in workers if "requests_running" in running(each)]
    hit.process.signal(number)
    got += chunks
    assert error_of(got) is None
    assert finish_reasons(got) == {0: "length"}
    trace = client.trace(ours, count)
    trace.check()
    return trace


def running(of: Worker) -> str:
    """The line of the worker's metrics that tells of its rows, where there are some."""
    lines = of.metrics().splitlines()
    (line,) = [each for each in lines if each.startswith("sluice_num_requests_running{")]
    return "" if line.endswith(" 0.0") else line


def check_lost_and_linked(trace: Trace) -> None:
    assert trace.root.status == "UNSET"
    assert trace.root.attributes["sluice.attempts"] == 2
    assert trace.root.attributes["gen_ai.usage.output_tokens"] == 200
    first, second = trace.attempts
    assert first.attributes["sluice.outcome"] == "lost"
    assert first.attributes["error.type"] == "worker_lost"
    assert first.status == "ERROR"
    assert not first.links
    assert second.attributes["sluice.outcome"] == "done"
    assert second.status == "UNSET"
    assert second.links == (first.span_id,)
    assert first.end_ns <= second.start_ns
    assert trace.of_worker(second).status == "UNSET"


def test_a_killed_worker_leaves_its_attempt_in_the_trace(
    received: Receiver, fake_model_dir: Path
) -> None:
    with pair(received, fake_model_dir) as workers, traced_gateway(received, *workers) as client:
        trace = disturbed(client, workers, signal.SIGKILL, 8)
        check_lost_and_linked(trace)
        # What dies at once can tell nothing itself.
        assert trace.below(trace.attempts[0].span_id) == []
        assert len(trace.below(trace.attempts[1].span_id)) == 1


def test_a_worker_that_is_told_to_stop_tells_its_part(
    received: Receiver, fake_model_dir: Path
) -> None:
    with (
        pair(received, fake_model_dir, DRAIN_SECONDS="0.3") as workers,
        traced_gateway(received, *workers) as client,
    ):
        trace = disturbed(client, workers, signal.SIGTERM, 12)
        check_lost_and_linked(trace)
        assert trace.of_worker(trace.attempts[0]).span_id


def test_the_search_for_another_worker_is_a_span(received: Receiver, fake_model_dir: Path) -> None:
    with (
        traced_worker(received, fake_model_dir, **FAKE) as lone,
        traced_gateway(received, lone, FAILOVER_SECONDS="0.5") as client,
    ):
        ours, chunks = client.stream(chat(max_tokens=2000))
        got = [next(chunks) for _ in range(5)]
        lone.process.signal(signal.SIGKILL)
        got += chunks
        error = error_of(got)
        assert error is not None
        trace = client.trace(ours, 4)
        trace.check()
        assert trace.root.status == "ERROR"
        assert trace.root.attributes["error.type"] == "worker_lost"
        (attempt,) = trace.attempts
        assert trace.names_below(trace.root) == sorted([attempt.name, "place", "prepare"])
        (place,) = [span for span in trace.spans if span.name == "place"]
        assert attempt.end_ns <= place.start_ns
