"""From the worker's settings to the hf engine's options."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.engines.base import Engine
from sluice_worker.engines.hf import HfOptions, ModelLoadError, describe, load
from sluice_worker.progress import Meter
from sluice_worker.settings import Settings
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.report import LoadReport

#: How often it is told how far a model has been read.
TELL_SECONDS = 0.25


def load_engine(
    settings: Settings, model_dir: Path, report: LoadReport, adapters: Mapping[str, Path]
) -> Engine:
    """Load the hf engine. Blocking; raises ModelNotUsable."""
    meter: Meter | None = None
    told = 0.0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal meter, told
        if stage == "warming":
            report.state(pb.WORKER_STATE_WARMING)
        elif total:
            meter = meter or Meter(total)
            meter.add(done - meter.done)
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                report.progress(meter.progress())

    try:
        return load(_options(settings, model_dir), progress)
    except ModelLoadError as error:
        raise ModelNotUsable(str(error)) from error


def check_model(settings: Settings, config_dir: Path) -> str:
    """See EngineModule."""
    try:
        return describe(_options(settings, config_dir))
    except ModelLoadError as error:
        raise ModelNotUsable(str(error)) from error


def _options(settings: Settings, model_dir: Path) -> HfOptions:
    return HfOptions(
        model_dir=model_dir,
        batch_max=settings.batch_max,
        batch_delay_ms=settings.batch_delay_ms,
        max_model_len=settings.max_model_len,
        kv_cache_bytes=settings.kv_cache_bytes,
        dtype=settings.dtype,
        prefill_chunk=settings.prefill_chunk,
        prefill_step_ms=settings.prefill_step_ms,
        queue_max=settings.queue_max,
        num_threads=settings.num_threads,
        trust_remote_code=settings.trust_remote_code,
        prefix_caching=settings.enable_prefix_caching,
    )
