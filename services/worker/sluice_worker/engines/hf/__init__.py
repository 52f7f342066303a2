"""The hf engine: continuous batching over Hugging Face decoder-only models on CPU.

``load`` reads a model and returns an engine. torch is imported by ``load``, not by
this package, so that a worker can report its state before the slow imports.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from sluice_worker.engines.hf.options import HfOptions, LoadProgress, ModelLoadError

if TYPE_CHECKING:
    from sluice_worker.engines.hf.engine import HfEngine

__all__ = ["HfOptions", "LoadProgress", "ModelLoadError", "describe", "load"]


def load(options: HfOptions, progress: LoadProgress) -> HfEngine:
    """Load the model of ``options.model_dir``. Blocks; raises ModelLoadError.

    ``progress`` is told as LoadProgress says, from a thread of the loading's own. OpenMP keeps a
    team of threads for every thread that computed, until that ends; while there are more of them
    than cores, none waits by spinning. Left in the caller's thread, the loading's team costs the
    engine 7 ms of each 18 ms step.
    """
    from sluice_worker.engines.hf.machine import prepare_libraries

    prepare_libraries()
    loaded: Future[HfEngine] = Future()

    def run() -> None:
        try:
            from sluice_worker.engines.hf.loading import load_engine

            loaded.set_result(load_engine(options, progress))
        except BaseException as error:  # noqa: BLE001 (the caller gets it)
            loaded.set_exception(error)

    thread = threading.Thread(target=run, name="hf-load", daemon=True)
    thread.start()
    thread.join()
    return loaded.result()


def describe(options: HfOptions) -> str:
    """What the model is whose config files are in ``options.model_dir``, by these alone.

    Blocks, for the imports; raises ModelLoadError for what cannot be served.
    """
    from sluice_worker.engines.hf.machine import prepare_libraries

    prepare_libraries()
    from sluice_worker.engines.hf.loading import describe_config

    return describe_config(options)
