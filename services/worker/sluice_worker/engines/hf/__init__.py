"""The hf engine: continuous batching over Hugging Face decoder-only models on CPU.

``load`` reads a model and returns an engine. torch is imported by ``load``, not by
this package, so that a worker can report its state before the slow imports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sluice_worker.engines.hf.options import HfOptions, ModelLoadError

if TYPE_CHECKING:
    from sluice_worker.engines.hf.engine import HfEngine

__all__ = ["HfOptions", "ModelLoadError", "load"]


def load(options: HfOptions, progress: Callable[[str], None]) -> HfEngine:
    """Load the model of ``options.model_dir``. Blocks; raises ModelLoadError.

    ``progress`` is told "loading" and "warming" as each begins.
    """
    from sluice_worker.engines.hf.machine import prepare_libraries

    prepare_libraries()
    from sluice_worker.engines.hf.loading import load_engine

    return load_engine(options, progress)
