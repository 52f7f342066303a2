"""From the worker's settings to the hf engine's options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sluice_worker.engines.base import Engine
from sluice_worker.engines.hf import HfOptions, ModelLoadError, load
from sluice_worker.model_source import ModelNotUsable
from sluice_worker.settings import Settings


def load_engine(settings: Settings, model_dir: Path, progress: Callable[[str], None]) -> Engine:
    """Load the hf engine. Blocking; raises ModelNotUsable."""
    try:
        options = HfOptions(
            model_dir=model_dir,
            batch_max=settings.batch_max,
            batch_delay_ms=settings.batch_delay_ms,
            max_model_len=settings.max_model_len,
            kv_cache_bytes=settings.kv_cache_bytes,
            dtype=settings.dtype,
            prefill_chunk=settings.prefill_chunk,
            queue_max=settings.queue_max,
            num_threads=settings.num_threads,
            trust_remote_code=settings.trust_remote_code,
        )
        return load(options, progress)
    except ModelLoadError as error:
        raise ModelNotUsable(str(error)) from error
