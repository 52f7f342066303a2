"""The worker's Prometheus metrics, and the HTTP port that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.engines.base import EngineLoad, StepOutput
from sluice_worker.lifecycle import Condition, state_name

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SECONDS_BUCKETS = (
    *(0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60),
    *(120, 240, 480, 960, 1920, 7680),
)
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


class WorkerMetrics:
    """What one worker counts. Every metric has the label ``model_name``."""

    def __init__(self, model_name: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which nothing reads
        self.registry = CollectorRegistry()
        self._model_name = model_name
        self._batch_size = self._make(
            Histogram, "sluice_batch_size", "Rows per engine step.", buckets=BATCH_BUCKETS
        )
        self._step = self._make(
            Histogram, "sluice_engine_step_seconds", "Engine step time.", buckets=STEP_BUCKETS
        )
        self._queue_time = self._make(
            Histogram,
            "sluice_request_queue_time_seconds",
            "From submit to the start of prefill.",
            buckets=SECONDS_BUCKETS,
        )
        self._prefill_time = self._make(
            Histogram,
            "sluice_request_prefill_time_seconds",
            "From the start of prefill to the first token.",
            buckets=SECONDS_BUCKETS,
        )
        self._prompt_tokens = self._make(Counter, "sluice_prompt_tokens", "Prompt tokens computed.")
        self._generation_tokens = self._make(
            Counter, "sluice_generation_tokens", "Tokens generated."
        )
        self._running = self._make(Gauge, "sluice_num_requests_running", "Rows in the batch.")
        self._waiting = self._make(Gauge, "sluice_num_requests_waiting", "Rows that wait.")
        self._kv_usage = self._make(
            Gauge, "sluice_kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1."
        )
        self._load: Callable[[], EngineLoad] = partial(EngineLoad, 0, 0, 0.0)
        self.expose(self._engine_counts)
        self._state = Gauge(
            "sluice_model_load_state",
            "1 for the state that the model is in, 0 for the others.",
            ("model_name", "state"),
            registry=self.registry,
        )

        self._downloaded = self._make(
            Gauge, "sluice_model_download_bytes", "Bytes of the model's files that are there."
        )
        self._download_expected = self._make(
            Gauge, "sluice_model_download_bytes_expected", "Bytes of the model's files in all."
        )

    def _make(self, kind: Callable[..., Any], name: str, help_text: str, **options: Any) -> Any:
        metric = kind(name, help_text, ("model_name",), registry=self.registry, **options)
        return metric.labels(self._model_name)

    def observe_step(self, step: StepOutput) -> None:
        """Count one engine step."""
        self._batch_size.observe(step.batch_size)
        self._step.observe(step.seconds)
        self._prompt_tokens.inc(step.prompt_tokens)
        self._generation_tokens.inc(sum(len(row.token_ids) for row in step.rows))
        for row in step.rows:
            if row.start:
                self._queue_time.observe(row.start.queue_seconds)
                self._prefill_time.observe(row.start.prefill_seconds)

    def watch_load(self, load: Callable[[], EngineLoad]) -> None:
        """Read the load gauges from ``load`` at each scrape."""
        self._load = load
        self._running.set_function(lambda: load().rows_running)
        self._waiting.set_function(lambda: load().rows_waiting)
        self._kv_usage.set_function(lambda: load().kv_cache_usage)

    def _engine_counts(self) -> Iterable[Metric]:
        """What the engine has counted so far."""
        load = self._load()
        queries = "Prompt tokens looked up in the prefix cache."
        hits = "Prompt tokens found in the prefix cache."
        preemptions = "Running rows put back for want of room in the KV cache."
        for name, help_text, count in (
            ("sluice_prefix_cache_queries", queries, load.prefix_cache_queries),
            ("sluice_prefix_cache_hits", hits, load.prefix_cache_hits),
            ("sluice_preemptions", preemptions, load.preemptions),
        ):
            family = CounterMetricFamily(name, help_text, labels=("model_name",))
            family.add_metric((self._model_name,), count)
            yield family

    def expose(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Export what ``collect`` returns at each scrape, as it is."""
        self.registry.register(_Collector(collect))

    def observe_condition(self, condition: Condition) -> None:
        """Note the state that the worker is in, and how far its download is."""
        for state in pb.WorkerState.values()[1:]:
            gauge = self._state.labels(self._model_name, state_name(state))
            gauge.set(1 if state == condition.state else 0)
        if condition.state == pb.WORKER_STATE_DOWNLOADING:
            self._downloaded.set(condition.progress.bytes_done)
            self._download_expected.set(condition.progress.bytes_total)
        elif condition.state == pb.WORKER_STATE_VERIFYING:  # all of them are there
            self._downloaded.set(condition.progress.bytes_total)
            self._download_expected.set(condition.progress.bytes_total)

    def serve(self, address: str) -> tuple[WSGIServer, int]:
        """Serve ``/metrics`` at HOST:PORT from a thread. Returns the server and its port."""
        host, _, port = address.rpartition(":")
        server, _thread = start_http_server(int(port), host.strip("[]"), registry=self.registry)
        return server, int(server.server_port)
