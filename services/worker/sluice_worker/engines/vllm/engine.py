"""The vllm engine: a thread with vLLM's event loop, and a door for the service's thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from prometheus_client.metrics_core import Metric
from vllm.lora.request import LoRARequest
from vllm.outputs import RequestOutput
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from sluice_worker.engines.base import (
    EngineLoad,
    ErrorCode,
    FinishReason,
    GenerationRequest,
    ModelInfo,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    StepOutput,
    StructuredOutput,
)
from sluice_worker.engines.vllm.core_requests import CoreRequests
from sluice_worker.engines.vllm.outputs import Asked, row_output
from sluice_worker.engines.vllm.stats import StepSource, vllm_metrics
from sluice_worker.engines.vllm.thread import EngineThread
from sluice_worker.grammars.store import Grammars

log = logging.getLogger(__name__)

Emit = Callable[[StepOutput], None]
Fail = Callable[[BaseException], None]


class _Row:
    """A row under way; vLLM puts its outputs here, in the place of a queue of its own."""

    __slots__ = ("asked", "engine", "key", "request_id", "started")

    def __init__(self, engine: VllmEngine, key: RowKey, asked: Asked, request_id: str):
        self.engine = engine
        self.key = key
        self.asked = asked
        self.request_id = request_id
        self.started = False

    def put(self, output: RequestOutput | Exception) -> None:
        """Called by vLLM, on its loop, for each step's output of this row."""
        if isinstance(output, RequestOutput):
            self.engine.take(self, output)


class VllmEngine:
    """Engine over vLLM's AsyncLLM. See ``sluice_worker.engines.base.Engine``."""

    def __init__(
        self,
        model: ModelInfo,
        llm: AsyncLLM,
        thread: EngineThread,
        steps: StepSource,
        adapters: dict[str, LoRARequest],
        grammars: Grammars | None,
        *,
        queue_max: int,
    ) -> None:
        self.model = model
        self._llm = llm
        self._thread = thread
        self._adapters = adapters
        self._grammars = grammars
        self._requests = CoreRequests(llm, thread.call(llm.get_supported_tasks()))
        self._room = queue_max + model.batch_max
        self._emit: Emit | None = None
        self._fail: Fail | None = None
        self._closing = False
        self._dead = False
        self._lock = threading.Lock()
        self._rows: dict[RowKey, _Row] = {}
        # All that follows belongs to vLLM's loop.
        self._outbox: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()
        self._ready: list[RowOutput] = []
        self._running = 0
        self._usage = 0.0
        self._prefix_queries = 0
        self._prefix_hits = 0
        self._preemptions = 0
        self._last_step = time.monotonic()
        steps.listener = self._on_step

    def __repr__(self) -> str:
        load = self.load()
        return f"<VllmEngine running={load.rows_running} waiting={load.rows_waiting}>"

    def start(self, emit: Emit, fail: Fail) -> None:
        """As ``Engine.start``."""
        self._emit, self._fail = emit, fail
        self._thread.loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._sender = self._thread.loop.create_task(self._send())
        handler = self._llm.output_handler
        assert handler is not None
        handler.add_done_callback(self._on_end)

    async def _send(self) -> None:
        """Do what there is to do for vLLM, in order: an abort never overtakes its row."""
        while True:
            work = await self._outbox.get()
            try:
                await work
            except EngineDeadError as error:
                self._die(error)
            except Exception:  # an abort that vLLM would not take: there is nobody to tell
                log.exception("vLLM did not take what was asked of it")

    # What goes to vLLM

    def prepare(self, output: StructuredOutput) -> None:
        """As ``Engine.prepare``.

        vLLM's own check has no bounds, and what it lets pass may fail in its core without a word.
        """
        self._grammar(output)

    def _grammar(self, output: StructuredOutput) -> str:
        if self._grammars is None:
            message = "This model's tokenizer allows no structured output."
            raise RequestError(ErrorCode.INVALID_ARGUMENT, message, "structured_output")
        return self._grammars.compiled(output).text

    def submit(self, request: GenerationRequest) -> None:
        """As ``Engine.submit``."""
        keys = {spec.key for spec in request.rows}
        with self._lock:
            self._check_room(keys, len(request.rows))
        adapter = self._adapters[request.adapter] if request.adapter else None
        output = request.sampling.structured_output
        grammar = self._grammar(output) if output else None
        made = [self._requests.made(request, spec, adapter, grammar) for spec in request.rows]
        if not self._rows:
            self._last_step = time.monotonic()  # the clock of an idle engine starts now
        for spec, core_request in zip(request.rows, made, strict=True):
            row = _Row(self, spec.key, Asked.of(request), core_request.request_id)
            with self._lock:
                self._rows[spec.key] = row
            self._post(self._add(row, core_request))

    def _check_room(self, keys: set[RowKey], rows: int) -> None:
        if self._closing or self._dead:
            raise RequestError(ErrorCode.UNAVAILABLE, "The engine is closed.")
        if len(keys) < rows or not keys.isdisjoint(self._rows):
            raise RequestError(
                ErrorCode.INVALID_ARGUMENT, "A row of that id is there already.", "rows.row_id"
            )
        if rows > self._room:
            raise RequestError(
                ErrorCode.INVALID_ARGUMENT, f"A request may have {self._room} rows at most.", "rows"
            )
        if len(self._rows) + rows > self._room:
            raise RequestError(ErrorCode.OVERLOADED, "The worker's queue is full.")

    async def _add(self, row: _Row, core_request: EngineCoreRequest) -> None:
        if row.key not in self._rows:
            return  # aborted before it was there
        # What AsyncLLM.add_request does for one row, with a queue of ours: its own would need a
        # task for every row, woken at every token.
        try:
            self._llm.output_processor.add_request(core_request, None, None, 0, row)
            await self._llm.engine_core.add_request_async(core_request)
        except EngineDeadError:
            raise
        except Exception:  # one row's trouble is not the others'
            log.exception("a row could not be handed to vLLM")
            self._fail_row(row)

    def abort(self, keys: Iterable[RowKey]) -> None:
        """As ``Engine.abort``."""
        with self._lock:
            gone = [row for key in keys if (row := self._rows.pop(key, None))]
        if gone:
            self._post(self._drop([row.request_id for row in gone]))

    async def _drop(self, request_ids: list[str]) -> None:
        await self._llm.abort(request_ids, internal=True)

    def _post(self, work: Coroutine[Any, Any, None]) -> None:
        self._thread.loop.call_soon_threadsafe(self._outbox.put_nowait, work)

    # What comes from vLLM

    def take(self, row: _Row, output: RequestOutput) -> None:
        """Keep a row's output until the step is over."""
        if row.key not in self._rows:
            return
        try:
            made = row_output(row.key, output, row.asked, begins=not row.started)
        except Exception:  # one row's trouble is not the others'
            log.exception("an output of vLLM could not be read")
            self._fail_row(row)
            return
        row.started = True
        if made.finish:
            with self._lock:
                self._rows.pop(row.key, None)
        self._ready.append(made)

    def _fail_row(self, row: _Row) -> None:
        """End a row with an error, and have vLLM drop it."""
        with self._lock:
            self._rows.pop(row.key, None)
        message = "The worker failed at this row; its log says more."
        error = RequestError(ErrorCode.INTERNAL, message)
        self._ready.append(
            RowOutput(row.key, [], finish=RowFinish(FinishReason.ERROR, error=error))
        )
        self._outbox.put_nowait(self._drop([row.request_id]))

    def _on_step(self, scheduler_stats: Any, iteration_stats: Any) -> None:
        """All outputs of a step have been handed out: they are one frame."""
        now = time.monotonic()
        seconds, self._last_step = now - self._last_step, now
        if scheduler_stats is not None:
            self._note(scheduler_stats)
        if iteration_stats is not None:
            self._preemptions += iteration_stats.num_preempted_reqs
        # A step without outputs is one too: of a long prompt's prefill there may be many.
        if self._emit is None or not (self._ready or self._rows):
            return
        rows, self._ready = self._ready, []
        ended = sum(row.finish is not None for row in rows)
        self._emit(
            StepOutput(
                rows,
                batch_size=max(len(rows), self._running + ended),
                seconds=seconds,
                prompt_tokens=iteration_stats.prompt_token_stats.computed if iteration_stats else 0,
            )
        )

    def _note(self, stats: Any) -> None:
        self._running = stats.num_running_reqs
        self._usage = stats.kv_cache_usage
        self._prefix_queries += stats.prefix_cache_stats.queries
        self._prefix_hits += stats.prefix_cache_stats.hits

    def _on_end(self, handler: asyncio.Task[None]) -> None:
        """No more outputs are read: vLLM's core is dead, or this engine closes."""
        error = None if handler.cancelled() else handler.exception()
        who = "engine core died" if self._llm.errored else "output handler failed"
        self._die(error or RuntimeError(f"vLLM's {who}; its own log says why"))

    def _die(self, error: BaseException) -> None:
        if self._closing or self._dead:
            return
        self._dead = True
        log.error("vLLM's engine is dead: %s", error)
        assert self._fail
        self._fail(error)

    def load(self) -> EngineLoad:
        """As ``Engine.load``. vLLM's own figures are those of its last step."""
        rows = len(self._rows)
        running = min(self._running, rows)
        usage = self._usage if rows else 0.0
        counts = self._prefix_queries, self._prefix_hits, self._preemptions
        return EngineLoad(running, rows - running, usage, *counts)

    def metrics(self) -> Iterable[Metric]:
        """As ``Engine.metrics``."""
        return vllm_metrics()

    def close(self) -> None:
        """As ``Engine.close``."""
        if self._closing:
            return
        self._closing = True
        if self._grammars:
            self._grammars.close()
        self._thread.call(self._shut_down())
        self._thread.stop()
        self._rows.clear()

    async def _shut_down(self) -> None:
        if self._emit:
            self._sender.cancel()
        self._llm.shutdown()
