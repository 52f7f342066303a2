"""What the dashboards say is what a client measured from outside, by its own clock."""

from __future__ import annotations

import itertools
import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dashboards.boards import QUERIES
from tests.dashboards.scraping import INSTALLED, Prometheus, prometheus, wait_until_scraping
from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat

pytestmark = [INSTALLED, pytest.mark.xdist_group("dashboards")]

WITHIN = 0.05
STREAMS = 8
SETTLE_SECONDS = 1.0
FAKE = {"ENGINE": "fake", "FAKE_STEP_MS": "20", "FAKE_PREFILL_MS": "250"}


@dataclass
class Stream:
    """One streamed answer, in the client's own times: seconds since 1970."""

    sent: float = 0.0
    tokens: list[float] = field(default_factory=list)
    timings: dict[str, Any] = field(default_factory=dict)


@dataclass
class Window:
    """From one scrape to another, seconds since 1970: rates are exact for that time."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    @property
    def range(self) -> str:
        """A range that has both scrapes in it, and none before."""
        return f"{int(self.seconds * 1000) + 100}ms"

    def holds(self, moment: float) -> bool:
        return self.begin <= moment < self.end


@dataclass
class Measured:
    """A load, and the Prometheus that watched it. ``begin`` to ``end`` all streams were running."""

    streams: list[Stream]
    source: Prometheus
    begin: float
    end: float

    def window(self, service: str) -> Window:
        """Between the first and the last scrape of that service within the load."""
        metric = {"gateway": "sluice_streams_active", "worker": "sluice_num_requests_running"}
        seconds = int(time.time() - self.begin) + 1
        (series,) = self.source.ask("query", query=f"{metric[service]}[{seconds}s]")["result"]
        scrapes = [at for at, _ in series["values"] if self.begin <= at <= self.end]
        assert len(scrapes) > 4, "the answers were too short"
        return Window(scrapes[0], scrapes[-1])

    def board(self, query: str, window: Window) -> float:
        """What that query of a dashboard shows for the window."""
        (found,) = (each for each in QUERIES if str(each) == query)
        expr = found.with_variables(window.range, namespace=".*", model_name=".*")
        (series,) = self.source.ask("query", query=expr, time=window.end)["result"]
        return float(series["value"][1])

    def bounds_of(self, metric: str, value: float) -> tuple[float, float]:
        """The bucket that a value is in: a quantile is known no better."""
        result = self.source.ask("query", query=f"{metric}_bucket", time=self.end)["result"]
        limits = sorted({float(series["metric"]["le"]) for series in result})
        above = next(limit for limit in limits if value <= limit)
        return max([limit for limit in limits if limit < value], default=0.0), above

    def intervals(self, window: Window) -> list[float]:
        """Between tokens that the client got in the window."""
        return [
            after - before
            for each in self.streams
            for before, after in itertools.pairwise(each.tokens)
            if window.holds(after)
        ]


def read_stream(address: str, body: bytes, into: Stream) -> None:
    """Ask, and note when each token comes."""
    with closing(HTTPConnection(address, timeout=120)) as connection:
        connection.connect()
        into.sent = time.time()
        connection.request(
            "POST", "/v1/chat/completions", body, {"content-type": "application/json"}
        )
        answer = connection.getresponse()
        assert answer.status == 200
        while line := answer.readline():
            now = time.time()
            if line.startswith(b"data: {"):
                chunk = json.loads(line[6:])
                for choice in chunk["choices"]:
                    into.tokens += [now] * len(choice.get("token_ids", ()))
                into.timings = chunk.get("timings") or into.timings


def load(front: Gateway, tokens: int) -> list[Stream]:
    """So many streams at once, each of so many tokens."""
    options = {"include_usage": True, "include_timings": True}
    asked = chat(max_tokens=tokens, stream=True, stream_options=options)
    # Each token is to have a text, so that a chunk tells of it when it comes.
    asked |= {"return_token_ids": True, "ignore_eos": True, "skip_special_tokens": False}
    body = json.dumps(asked).encode()
    streams = [Stream() for _ in range(STREAMS)]
    address = httpx.URL(front.url).netloc.decode()
    threads = [threading.Thread(target=read_stream, args=(address, body, each)) for each in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each.timings for each in streams)
    return streams


def measured(
    front: Gateway, model: Worker, folder: Path, tokens: int, interval: str
) -> Iterator[Measured]:
    targets = [httpx.URL(url).netloc.decode() for url in (front.url, model.metrics_url)]
    with prometheus(folder / "prometheus", targets, interval=interval) as source:
        wait_until_scraping(source, len(targets))
        streams = load(front, tokens)
        begin = max(each.tokens[0] for each in streams) + SETTLE_SECONDS
        end = min(each.tokens[-1] for each in streams)
        time.sleep(1.5)  # the last scrape
        yield Measured(streams, source, begin, end)


@pytest.fixture(scope="module")
def paced(fake_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """The fake engine: a token every 20 ms for each stream, the first after a quarter second."""
    with worker(fake_model_dir, **FAKE) as fake, gateway(fake.address) as front:
        yield from measured(front, fake, tmp_path_factory.mktemp("paced"), 450, "500ms")


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    """The hf engine with the demo model, as fast as it goes: seconds, so it is scraped often."""
    with worker() as hf, gateway(hf.address) as front:
        yield from measured(front, hf, tmp_path_factory.mktemp("computed"), 1900, "200ms")


@pytest.fixture(params=["paced", "computed"])
def either(request: pytest.FixtureRequest) -> Measured:
    found: Measured = request.getfixturevalue(request.param)
    return found


def test_first_tokens_come_when_the_dashboard_says(paced: Measured) -> None:
    firsts = [each.tokens[0] - each.sent for each in paced.streams]
    outside = statistics.mean(firsts)
    since_the_beginning = Window(paced.end - 60, paced.end)
    shown = paced.board("overview: Time to first token D", since_the_beginning)
    assert shown == pytest.approx(outside, rel=WITHIN)
    low, high = paced.bounds_of("sluice_time_to_first_token_seconds", statistics.median(firsts))
    assert low <= paced.board("overview: Time to first token A", since_the_beginning) <= high
    told = statistics.mean(each.timings["time_to_first_token_seconds"] for each in paced.streams)
    assert told == pytest.approx(shown, rel=WITHIN)


def test_tokens_follow_each_other_as_the_dashboard_says(either: Measured) -> None:
    window = either.window("gateway")
    intervals = either.intervals(window)
    outside = statistics.mean(intervals)
    shown = either.board("overview: Inter-token latency D", window)
    assert shown == pytest.approx(outside, rel=WITHIN)


def test_the_usual_interval_is_in_the_bucket_that_the_dashboard_says(paced: Measured) -> None:
    window = paced.window("gateway")
    usual = statistics.median(paced.intervals(window))
    low, high = paced.bounds_of("sluice_inter_token_latency_seconds", usual)
    assert low <= paced.board("overview: Inter-token latency A", window) <= high


@pytest.mark.parametrize(
    ("service", "query"),
    [("gateway", "overview: Tokens A"), ("worker", "worker: Tokens generated A")],
)
def test_there_are_as_many_tokens_a_second_as_the_dashboard_says(
    either: Measured, service: str, query: str
) -> None:
    window = either.window(service)
    count = sum(window.holds(at) for each in either.streams for at in each.tokens)
    assert either.board(query, window) == pytest.approx(count / window.seconds, rel=WITHIN)


def test_the_batch_is_as_large_as_there_are_streams(either: Measured) -> None:
    window = either.window("worker")
    shown = either.board("worker: Mean batch size A", window)
    assert shown == pytest.approx(STREAMS, rel=WITHIN)
    assert either.board("overview: Streams active A", window) == STREAMS
    assert either.board("worker: Rows running A", window) == STREAMS
    told = statistics.mean(each.timings["batch_size"] for each in either.streams)
    assert told == pytest.approx(shown, rel=WITHIN)
