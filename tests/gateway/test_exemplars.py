"""Exemplars: what leads from a bucket of a latency histogram to the trace of a request in it."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.otlp import Receiver, receiver
from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat

ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
WITH_EXEMPLARS = {
    "sluice_time_to_first_token_seconds",
    "sluice_inter_token_latency_seconds",
    "sluice_e2e_request_latency_seconds",
}


@pytest.fixture(scope="module")
def fake(fake_model_dir: Path) -> Iterator[Worker]:
    with worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="5") as started:
        yield started


@pytest.fixture(scope="module")
def received() -> Iterator[Receiver]:
    with receiver() as listening:
        yield listening


@pytest.fixture
def front(fake: Worker, received: Receiver) -> Iterator[Gateway]:
    with gateway(fake.address, **received.environment) as started:
        yield started


def ask(front: Gateway, *, sampled: bool = True, **fields: Any) -> str:
    """Have a request answered; the trace that its client has begun."""
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-{sampled:02x}"}
    answered = httpx.post(
        f"{front.url}/v1/chat/completions", json=chat(max_tokens=8, **fields), headers=headers
    )
    assert answered.status_code == 200
    return trace_id


def exemplars(front: Gateway) -> dict[str, set[str]]:
    """The traces that each histogram names, after a look at where."""
    scraped = httpx.get(f"{front.url}/metrics", headers={"accept": ACCEPT})
    assert scraped.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    found: dict[str, set[str]] = {}
    for family in openmetrics.text_string_to_metric_families(scraped.text):
        below = -math.inf
        for sample in family.samples:
            bound = float(sample.labels.get("le", "inf"))
            if sample.exemplar is not None:
                assert below < sample.exemplar.value <= bound, sample
                assert set(sample.exemplar.labels) == {"trace_id"}
                found.setdefault(family.name, set()).add(sample.exemplar.labels["trace_id"])
            below = bound if math.isfinite(bound) else -math.inf
    return found


def test_the_latency_histograms_name_a_trace_that_was_sent(
    front: Gateway, received: Receiver
) -> None:
    trace_id = ask(front)
    assert exemplars(front) == {name: {trace_id} for name in WITH_EXEMPLARS}
    received.wait_for(lambda spans: [span for span in spans if span.trace_id == trace_id])


def test_a_later_request_takes_the_place_of_one_in_the_same_bucket_only(front: Gateway) -> None:
    first, second = (ask(front) for _ in range(2))
    for named in exemplars(front).values():
        assert second in named
        assert named <= {first, second}


def test_of_several_choices_there_is_no_mean_interval(front: Gateway) -> None:
    trace_id = ask(front, n=3)
    few = WITH_EXEMPLARS - {"sluice_inter_token_latency_seconds"}
    assert exemplars(front) == {name: {trace_id} for name in few}


def test_a_trace_that_is_not_sampled_is_not_named(front: Gateway) -> None:
    ask(front, sampled=False)
    assert exemplars(front) == {}


def test_without_traces_there_are_none(fake: Worker) -> None:
    with gateway(fake.address) as front:
        ask(front)
        assert exemplars(front) == {}


def test_who_does_not_ask_for_openmetrics_gets_the_text_format_without_them(
    front: Gateway,
) -> None:
    ask(front)
    for accept in ("*/*", "text/plain;version=0.0.4", "text/html"):
        scraped = httpx.get(f"{front.url}/metrics", headers={"accept": accept})
        assert scraped.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert "trace_id" not in scraped.text
        assert "# EOF" not in scraped.text
        assert {family.name for family in parse_text(scraped.text)} > WITH_EXEMPLARS


def test_both_formats_of_both_services_have_the_same_series(front: Gateway, fake: Worker) -> None:
    ask(front)
    for url in (f"{front.url}/metrics", fake.metrics_url):
        httpx.get(url)  # the first look is counted itself
        text = httpx.get(url, headers={"accept": "text/plain"}).text
        scraped = httpx.get(url, headers={"accept": ACCEPT})
        assert scraped.headers["content-type"].startswith("application/openmetrics-text")
        series = [
            {
                (sample.name, *sorted(sample.labels.items()))
                for family in families
                for sample in family.samples
            }
            for families in (
                parse_text(text),
                openmetrics.text_string_to_metric_families(scraped.text),
            )
        ]
        assert series[0] == series[1]
        assert len(series[0]) > 20
