"""The gateway's Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sluice_gateway.inter_token import InterTokenLatency, Intervals
from sluice_gateway.record import RequestRecord

#: What an exposition may be: Prometheus' text format, or OpenMetrics.
MEDIA_TYPES = ("text/plain", "application/openmetrics-text")

#: In the place of a model's name, for workers that have not told theirs yet.
UNKNOWN_MODEL = "_unknown"

FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),
    *(20, 40, 80, 160, 640, 2560),
)
#: What the time to first token is made of: the gateway's own work with its queue and the way to
#: the worker and back, the worker's queue, the worker's work on the prompt.
FIRST_TOKEN_PARTS = ("gateway", "queue", "prefill")

#: As OpenAI has them.
FINISH_REASONS = ("stop", "length", "tool_calls", "content_filter")

SECONDS_BUCKETS = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 7680),
)


class _Workers(Collector):
    """Workers by model and state, counted at each scrape."""

    def __init__(self, count: Callable[[], dict[tuple[str, str], int]]) -> None:
        self._count = count

    def collect(self) -> list[Metric]:
        """The gauge ``sluice_workers``."""
        family = GaugeMetricFamily(
            "sluice_workers", "Workers by model and state.", labels=("model_name", "state")
        )
        for labels, number in self._count().items():
            family.add_metric(labels, number)
        return [family]


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """What is counted of one model. Finding a metric by its labels costs more than counting."""

    time_to_first_token: Histogram
    first_token_parts: dict[str, Histogram]
    e2e_latency: Histogram
    intervals: Intervals
    failovers: Counter
    prompt_tokens: Counter
    generation_tokens: Counter
    success: dict[str, Counter]

    def observe_first_token(self, record: RequestRecord) -> None:
        """The first token of a request is there."""
        seconds = record.time_to_first_token
        assert seconds is not None
        self.time_to_first_token.observe(seconds, _exemplar(record))
        parts = record.gateway_seconds, record.queue_seconds, record.prefill_seconds
        for name, part in zip(FIRST_TOKEN_PARTS, parts, strict=True):
            if part is not None:
                self.first_token_parts[name].observe(part)

    def observe_end(self, record: RequestRecord) -> None:
        """A request has ended well."""
        exemplar = _exemplar(record)
        self.e2e_latency.observe(time.perf_counter() - record.served_from, exemplar)
        if exemplar is not None:
            self._note_mean_interval(record, exemplar)

    def _note_mean_interval(self, record: RequestRecord, exemplar: dict[str, str]) -> None:
        """Name the trace of an answer of one choice by its mean: none is named for each token."""
        tokens = record.usage.completion_tokens if record.usage is not None else 0
        if record.choices == 1 and tokens > 1 and record.decode_seconds is not None:
            self.intervals.note_exemplar(record.decode_seconds / (tokens - 1), exemplar)


class GatewayMetrics:
    """What one gateway counts. ``model_name`` is a model served, never a client's text."""

    def __init__(self) -> None:
        #: Each brings what it counts up to date. A long answer is counted at every scrape, so that
        #: its tokens do not all come at its end; counting each token would cost all of them.
        self.before_exposition: set[Callable[[], None]] = set()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nothing reads
        self.registry = CollectorRegistry()
        model = ("model_name",)
        self._models: dict[str, ModelMetrics] = {}
        self._count_workers: Callable[[], dict[tuple[str, str], int]] = dict
        self._http: dict[tuple[str, int], Counter] = {}
        self._time_to_first_token = Histogram(
            "sluice_time_to_first_token_seconds",
            "From the request's arrival to its first token.",
            model,
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self._first_token_parts = Histogram(
            "sluice_time_to_first_token_part_seconds",
            "What the time to first token is made of.",
            (*model, "part"),
            buckets=FIRST_TOKEN_BUCKETS,
            registry=self.registry,
        )
        self._intervals = InterTokenLatency()
        self.registry.register(self._intervals)
        self._e2e_latency = Histogram(
            "sluice_e2e_request_latency_seconds",
            "From the request's arrival to its last byte.",
            model,
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._success = self._counter(
            "sluice_request_success", "Choices that ended well.", (*model, "finished_reason")
        )
        self._failovers = self._counter(
            "sluice_failovers", "Prompts that another worker took over from a lost one.", model
        )
        self._http_requests = self._counter(
            "sluice_http_requests", "HTTP requests answered.", ("route", "status")
        )
        self.rejected = self._counter(
            "sluice_requests_rejected", "Requests refused before any token.", ("reason",)
        )
        self._prompt_tokens = self._counter("sluice_gateway_prompt_tokens", "Prompt tokens.", model)
        self._generation_tokens = self._counter(
            "sluice_gateway_generation_tokens", "Tokens sent to clients.", model
        )
        self.disconnects = self._counter(
            "sluice_client_disconnects", "Clients that left before the end.", ()
        )
        #: By its usual name. It also tells one gateway from another where several share an address.
        self._started = Gauge(
            "process_start_time_seconds",
            "When this process began, in seconds since 1970.",
            registry=self.registry,
        )
        self._started.set(time.time())
        self.streams_active = Gauge(
            "sluice_streams_active", "Answers under way.", registry=self.registry
        )

    def of_model(self, name: str) -> ModelMetrics:
        """What is counted of the model ``name``, which is one that is served."""
        found = self._models.get(name)
        if found is None:
            found = self._models[name] = ModelMetrics(
                self._time_to_first_token.labels(name),
                {part: self._first_token_parts.labels(name, part) for part in FIRST_TOKEN_PARTS},
                self._e2e_latency.labels(name),
                self._intervals.of_model(name),
                self._failovers.labels(name),
                self._prompt_tokens.labels(name),
                self._generation_tokens.labels(name),
                {reason: self._success.labels(name, reason) for reason in FINISH_REASONS},
            )
        return found

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def watch_workers(self, count: Callable[[], dict[tuple[str, str], int]]) -> None:
        """Take the number of workers by (model_name, state) from ``count`` at each scrape."""
        self._count_workers = count
        self.registry.register(_Workers(count))

    def count_http_request(self, route: str, status: int) -> None:
        """An HTTP request was answered; ``status`` is 0 for one that its client left before."""
        found = self._http.get((route, status))
        if found is None:
            found = self._http_requests.labels(route, str(status or "none"))
            self._http[route, status] = found
        found.inc()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their content type.

        That is Prometheus' text format, or OpenMetrics where the header ``accept`` asks for it:
        that one has exemplars.
        """
        for name, _state in self._count_workers():
            if name != UNKNOWN_MODEL:
                self.of_model(name)  # what begins at 0 is seen to grow, from the first request on
        for count in self.before_exposition:
            count()
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


def _exemplar(record: RequestRecord) -> dict[str, str] | None:
    """What leads from a bucket to a request in it: its trace, if it has one."""
    return {"trace_id": record.trace_id} if record.trace_id else None
