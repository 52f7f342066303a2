"""The hf engine: a thread that steps, and a door for the service's thread."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable

import torch
from prometheus_client.metrics_core import Metric

from sluice_worker.engines.base import (
    EngineLoad,
    ErrorCode,
    GenerationRequest,
    ModelInfo,
    RequestError,
    RowKey,
    RowSpec,
    StepOutput,
    StructuredOutput,
)
from sluice_worker.engines.hf.admission import check_request
from sluice_worker.engines.hf.batch import Runner
from sluice_worker.engines.hf.loop import StepLoop
from sluice_worker.engines.hf.mask_workers import MaskWorkers
from sluice_worker.engines.hf.row import Row, make_row
from sluice_worker.engines.hf.row_grammar import RowGrammar
from sluice_worker.engines.hf.sampler import DrawTokens
from sluice_worker.engines.hf.scheduler import Scheduler
from sluice_worker.grammars.store import Grammar, Grammars

log = logging.getLogger(__name__)

Emit = Callable[[StepOutput], None]
Fail = Callable[[BaseException], None]


class HfEngine:
    """Engine over transformers models on CPU. See ``sluice_worker.engines.base.Engine``."""

    def __init__(
        self,
        model: ModelInfo,
        runner: Runner,
        scheduler: Scheduler,
        draw: DrawTokens,
        grammars: Grammars | None = None,
        *,
        queue_max: int,
        batch_delay: float,
        threads: int,
    ) -> None:
        self._model = model
        self._runner: Runner | None = runner
        self._scheduler: Scheduler | None = scheduler
        self._draw: DrawTokens | None = draw
        self._grammars = grammars
        self._workers = MaskWorkers()
        self._queue_max = queue_max
        self._batch_delay = batch_delay
        self._threads = threads
        self._orders = itertools.count()
        self._thread: threading.Thread | None = None
        # All that follows is guarded by the condition's lock.
        self._changed = threading.Condition()
        self._arrived: list[Row] = []
        self._aborted: set[RowKey] = set()
        self._keys: set[RowKey] = set()
        self._running = 0
        self._usage = 0.0
        self._queries = 0
        self._hits = 0
        self._preemptions = 0
        self._closing = False
        self._failed = False

    def __repr__(self) -> str:
        load = self.load()
        return f"<HfEngine running={load.rows_running} waiting={load.rows_waiting}>"

    @property
    def model(self) -> ModelInfo:
        """What the loaded model is."""
        return self._model

    @property
    def path(self) -> str:
        """Which runner computes the model."""
        return self._runner.name if self._runner is not None else "closed"

    def start(self, emit: Emit, fail: Fail) -> None:
        """As ``Engine.start``."""
        if self._thread is not None:
            raise RuntimeError("the engine was started before")
        self._thread = threading.Thread(
            target=self._run, args=(emit, fail), name="hf-engine", daemon=True
        )
        self._thread.start()

    def prepare(self, output: StructuredOutput) -> None:
        """As ``Engine.prepare``."""
        self._grammar(output)

    def submit(self, request: GenerationRequest) -> None:
        """As ``Engine.submit``."""
        rows = self.make_rows(request)
        keys = {row.key for row in rows}
        with self._changed:
            if self._closing or self._failed:
                raise RequestError(ErrorCode.UNAVAILABLE, "The engine is closed.")
            if len(keys) < len(rows) or not keys.isdisjoint(self._keys):
                raise RequestError(
                    ErrorCode.INVALID_ARGUMENT, "A row of that id is there already.", "rows.row_id"
                )
            self._check_room(len(rows))
            self._keys |= keys
            self._arrived += rows
            self._changed.notify()

    def make_rows(self, request: GenerationRequest) -> list[Row]:
        """The rows of a request. Raises RequestError if they can never be served."""
        check_request(request, self._model)
        prompt = list(request.prompt_ids)
        grammar = self._grammar(request.sampling.structured_output)
        return [
            make_row(
                request,
                spec,
                next(self._orders),
                prompt,
                self._model.eos_token_ids,
                self._row_grammar(grammar, request, spec),
            )
            for spec in request.rows
        ]

    def abort(self, keys: Iterable[RowKey]) -> None:
        """As ``Engine.abort``."""
        with self._changed:
            gone = self._keys.intersection(keys)
            self._keys -= gone
            self._aborted |= gone
            self._changed.notify()

    def load(self) -> EngineLoad:
        """As ``Engine.load``."""
        with self._changed:
            running = min(self._running, len(self._keys))
            waiting = len(self._keys) - running
            counts = self._queries, self._hits, self._preemptions
            return EngineLoad(running, waiting, self._usage, *counts)

    def metrics(self) -> Iterable[Metric]:
        """As ``Engine.metrics``: none of its own."""
        return ()

    def close(self) -> None:
        """As ``Engine.close``."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._changed:
            self._arrived.clear()
            self._keys.clear()
            self._aborted.clear()
            self._running, self._usage = 0, 0.0
        self._runner = self._scheduler = self._draw = None
        self._workers.close()
        if self._grammars is not None:
            self._grammars.close()

    def _grammar(self, output: StructuredOutput | None) -> Grammar | None:
        if output is None:
            return None
        if self._grammars is None:
            raise RequestError(
                ErrorCode.INVALID_ARGUMENT,
                "This model's tokenizer does not allow structured output.",
                "structured_output",
            )
        return self._grammars.compiled(output)

    def _row_grammar(
        self, grammar: Grammar | None, request: GenerationRequest, spec: RowSpec
    ) -> RowGrammar | None:
        if grammar is None or self._grammars is None:
            return None
        ends = [token for token in request.sampling.stop_token_ids
                if self._grammars.is_special(token)]  # fmt: skip
        return RowGrammar(grammar, self._workers, spec.generated_ids, ends, self._model.vocab_size)

    def _check_room(self, rows: int) -> None:
        room = self._queue_max + self._model.batch_max
        if rows > room:
            raise RequestError(
                ErrorCode.INVALID_ARGUMENT, f"A request may have {room} rows at most.", "rows"
            )
        if len(self._keys) + rows > room:
            raise RequestError(ErrorCode.OVERLOADED, "The worker's queue is full.")

    def _run(self, emit: Emit, fail: Fail) -> None:
        torch.set_num_threads(self._threads)
        assert self._scheduler is not None
        assert self._runner is not None
        assert self._draw is not None
        loop = StepLoop(self._runner, self._scheduler, self._draw)
        try:
            with torch.inference_mode():
                while self._take_changes(self._scheduler):
                    step = self._scheduler.plan()
                    self._running = len(self._scheduler.running)
                    if step is not None:
                        self._emit(emit, loop.run(step))
        except BaseException as error:
            log.exception("the engine stops")
            with self._changed:
                self._failed = True
            fail(error)

    def _take_changes(self, scheduler: Scheduler) -> bool:
        """Take what came since the last step; sleep while there is nothing to do."""
        with self._changed:
            self._report(scheduler)
            if not scheduler.running and not scheduler.waiting:
                while not self._arrived and not self._closing:
                    self._apply_aborts(scheduler)
                    self._changed.wait()
                self._gather()
            self._apply_aborts(scheduler)
            scheduler.add(self._arrived)
            self._arrived = []
            self._running = len(scheduler.running)
            return not self._closing

    def _gather(self) -> None:
        """Wait for company: until the batch is full or the delay is over."""
        end = time.monotonic() + self._batch_delay
        while not self._closing and 0 < len(self._arrived) < self._model.batch_max:
            left = end - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _apply_aborts(self, scheduler: Scheduler) -> None:
        if self._aborted:
            self._arrived = [row for row in self._arrived if row.key not in self._aborted]
            scheduler.drop(self._aborted)
            self._aborted.clear()
            self._report(scheduler)

    def _report(self, scheduler: Scheduler) -> None:
        self._running = len(scheduler.running)
        self._usage = scheduler.usage
        self._queries, self._hits = scheduler.prefixes.queries, scheduler.prefixes.hits
        self._preemptions = scheduler.preemptions

    def _emit(self, emit: Emit, output: StepOutput) -> None:
        """Emit a step, its rows less those aborted meanwhile: there may be none."""
        with self._changed:
            output.rows = [row for row in output.rows if row.key in self._keys]
            self._keys.difference_update(row.key for row in output.rows if row.finish)
        emit(output)
