"""Loads the worker's model in a thread of its own, and tells the lifecycle how it comes along."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.engines import EngineModule, EngineNotAvailable, find_engine
from sluice_worker.engines.base import Engine
from sluice_worker.lifecycle import Lifecycle, State
from sluice_worker.progress import Progress
from sluice_worker.service import LoadedModel
from sluice_worker.settings import Settings
from sluice_worker.threads import from_thread, in_daemon_thread
from sluice_worker.tokenizer_bundle import TokenizerBundle, TokenizerMissing, generation_defaults
from sluice_worker.weights.adapters import find_adapters
from sluice_worker.weights.errors import ModelNotUsable
from sluice_worker.weights.pickled import as_safetensors
from sluice_worker.weights.report import LoadReport
from sluice_worker.weights.source import find_model

log = logging.getLogger(__name__)


class LoadFailed(Exception):
    """The model cannot be served; the message is one line fit for clients."""


class Loader:
    """From settings to a model that is ready to be served."""

    def __init__(self, settings: Settings, model_name: str, lifecycle: Lifecycle) -> None:
        self._settings = settings
        self._model_name = model_name
        self._lifecycle = lifecycle
        self._stop = threading.Event()
        self._ended = threading.Event()

    async def load(self) -> LoadedModel:
        """Load the model. Raises LoadFailed."""
        report = _ReportFromThread(asyncio.get_running_loop(), self._lifecycle)
        try:
            return await in_daemon_thread(partial(self._load_model, report))
        except ModelNotUsable as error:
            if error.detail:
                log.error("%s (%s)", error, error.detail)  # noqa: TRY400 (it says all)
            raise LoadFailed(str(error)) from error
        except (EngineNotAvailable, TokenizerMissing) as error:
            raise LoadFailed(str(error)) from error
        except asyncio.CancelledError:
            raise
        # Whatever a model can do wrong ends here, and is told; a panic in Rust is no Exception.
        except BaseException as error:
            log.exception("loading %s failed", self._settings.model_id)
            kind = type(error).__name__
            reason = f"loading {self._model_name} failed ({kind}); the worker's log says more"
            raise LoadFailed(reason) from error

    def stop(self, seconds: float) -> None:
        """Call a load off that is under way, and give it a moment to leave its lease. Blocks."""
        self._stop.set()
        self._ended.wait(seconds)

    def _load_model(self, report: LoadReport) -> LoadedModel:
        try:
            settings = self._settings
            engine_module = find_engine(settings.engine_name)
            model_dir = find_model(settings, report, self._stop, self._inspect(engine_module))
            adapters = self._adapters(report)
            report.state(pb.WORKER_STATE_LOADING)
            tokenizer = TokenizerBundle.read(model_dir)
            with as_safetensors(model_dir, allowed=settings.allow_pickle) as weights_dir:
                engine = engine_module.load_engine(settings, weights_dir, report, adapters)
            return LoadedModel(engine, tokenizer, self._describe(engine, tokenizer, model_dir))
        finally:
            self._ended.set()

    def _adapters(self, report: LoadReport) -> dict[str, Path]:
        """Directories of the adapters by name; those of the fake engine are names only."""
        if self._settings.engine_name == "fake":
            return {}
        return find_adapters(self._settings, report, self._stop)

    def _inspect(self, engine_module: EngineModule) -> Callable[[Path], object] | None:
        """Looks at a model's config while its weights are on their way.

        So what the engine cannot serve is not downloaded, and what it imports is imported already.
        A model with code of its own cannot be looked at before that is there.
        """
        if self._settings.trust_remote_code:
            return None
        return partial(engine_module.check_model, self._settings)

    def _describe(
        self, engine: Engine, tokenizer: TokenizerBundle, model_dir: Path
    ) -> pb.GetModelResponse:
        return pb.GetModelResponse(
            name=self._model_name,
            fingerprint=engine.model.fingerprint,
            max_model_len=engine.model.max_model_len,
            vocab_size=engine.model.vocab_size,
            tokenizer_hash=tokenizer.hash,
            eos_token_ids=engine.model.eos_token_ids,
            defaults=generation_defaults(model_dir),
            created=int(time.time()),
            engine=self._settings.engine_name,
            structured_output=engine.model.structured_output,
            adapters=[
                pb.Adapter(name=adapter.name, fingerprint=adapter.fingerprint)
                for adapter in engine.model.adapters
            ],
            request_fields=sorted(engine.model.request_fields),
        )


class _ReportFromThread:
    """Tells the lifecycle, on its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lifecycle: Lifecycle) -> None:
        self._loop = loop
        self._lifecycle = lifecycle

    def state(self, state: State) -> None:
        """See LoadReport."""
        from_thread(self._loop, self._lifecycle.to, state)

    def progress(self, progress: Progress) -> None:
        """See LoadReport."""
        from_thread(self._loop, self._lifecycle.progress, progress)

    def note(self, message: str) -> None:
        """See LoadReport."""
        from_thread(self._loop, self._lifecycle.note, message)
