"""What vLLM tells of itself after each step, and the metrics that it exports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric
from vllm.config import VllmConfig
from vllm.v1.metrics.loggers import StatLoggerBase, StatLoggerFactory

_PREFIX = "vllm:"

#: Called after each step with vLLM's SchedulerStats and IterationStats; either may be None.
OnStep = Callable[[Any, Any], None]


def step_logger(on_step: OnStep) -> StatLoggerFactory:
    """Has ``on_step`` called when all outputs of a step have been handed out."""

    class StepLogger(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: VllmConfig, engine_index: int = 0) -> None:
            """Nothing to prepare."""

        def record(
            self,
            scheduler_stats: Any,
            iteration_stats: Any,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            on_step(scheduler_stats, iteration_stats)

        def log_engine_initialized(self) -> None:
            """Log nothing: vLLM's own logger does."""

    return StepLogger


class StepSource:
    """Where vLLM tells of its steps; the engine listens once it is there."""

    def __init__(self) -> None:
        self.listener: Callable[[Any, Any], None] | None = None

    def tell(self, scheduler_stats: Any, iteration_stats: Any) -> None:
        """Pass on what a step came to."""
        if self.listener:
            self.listener(scheduler_stats, iteration_stats)


def vllm_metrics() -> Iterable[Metric]:
    """The metrics ``vllm:*`` as they are; vLLM keeps them in the process's default registry."""
    return (metric for metric in REGISTRY.collect() if metric.name.startswith(_PREFIX))
