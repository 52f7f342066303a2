"""Inter-token latency: a histogram that costs a token half a microsecond.

prometheus_client's own takes a lock and looks at a bucket after the other for each observation.
All of this lives on the event loop's thread, so that neither is needed.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 10.0),
)
_BOUNDS = (*(str(bound) for bound in BUCKETS), "+Inf")


class Intervals:
    """The intervals of one model, counted by bucket."""

    __slots__ = ("_counts", "_exemplars", "_sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS) + 1)
        self._exemplars: list[Exemplar | None] = [None] * len(self._counts)
        self._sum = 0.0

    def add(self, seconds: float, tokens: int) -> None:
        """Note ``tokens`` that came together, ``seconds`` after the one before them."""
        self._counts[bisect_left(BUCKETS, seconds / tokens)] += tokens
        self._sum += seconds

    def note_exemplar(self, seconds: float, labels: dict[str, str]) -> None:
        """``labels`` lead to a request with intervals of so many seconds: its bucket's latest."""
        at = bisect_left(BUCKETS, seconds)
        self._exemplars[at] = Exemplar(labels, seconds, time.time())

    def add_to(self, family: HistogramMetricFamily, model_name: str) -> None:
        """Write the counts into ``family``, as Prometheus has them."""
        total = 0
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for bound, count, exemplar in zip(_BOUNDS, self._counts, self._exemplars, strict=True):
            total += count
            buckets.append((bound, total) if exemplar is None else (bound, total, exemplar))
        family.add_metric((model_name,), buckets, self._sum)


class InterTokenLatency(Collector):
    """``sluice_inter_token_latency_seconds``, by model."""

    def __init__(self) -> None:
        self._models: dict[str, Intervals] = {}

    def of_model(self, name: str) -> Intervals:
        """Where the intervals of the model ``name`` are counted."""
        return self._models.setdefault(name, Intervals())

    def collect(self) -> Iterator[Metric]:
        """The histogram."""
        family = HistogramMetricFamily(
            "sluice_inter_token_latency_seconds",
            "Between a token and the next of the same choice, as the gateway receives them.",
            labels=("model_name",),
        )
        for name, intervals in self._models.items():
            intervals.add_to(family, name)
        yield family
