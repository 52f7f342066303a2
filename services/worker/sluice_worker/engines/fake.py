"""The fake engine: no weights, deterministic, programmable. The gateway is tested against it.

Every row says what its script has (``fake_script.py``), one token a step. ``FAKE_*`` settings drive
the engine as a whole; a directive in a prompt drives its own rows.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client.metrics_core import Metric
from sluice.worker.v1 import worker_pb2 as pb
from tokenizers import Tokenizer

from sluice_worker.engines.base import (
    AdapterInfo,
    EngineLoad,
    ErrorCode,
    FinishReason,
    GenerationRequest,
    ModelInfo,
    PromptLogprobs,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    RowStart,
    StepOutput,
    StructuredOutput,
    TokenLogprobs,
)
from sluice_worker.engines.fake_row import FakeRow, fake_rows
from sluice_worker.engines.fake_script import Scripts
from sluice_worker.settings import FakeSettings, Settings
from sluice_worker.weights.report import LoadReport

MAX_MODEL_LEN = 8192
_GATE_SECONDS = 0.02


def check_model(settings: Settings, config_dir: Path) -> str:
    """The fake engine serves whatever has a tokenizer."""
    return "anything will do for the fake engine"


def load_engine(
    settings: Settings, model_dir: Path, report: LoadReport, adapters: Mapping[str, Path]
) -> FakeEngine:
    """A fake engine that speaks the tokens of the tokenizer in ``model_dir``."""
    time.sleep(settings.fake.load_ms / 1000)
    while settings.fake.load_until and not settings.fake.load_until.exists():
        time.sleep(_GATE_SECONDS)
    report.state(pb.WORKER_STATE_WARMING)
    return FakeEngine(
        tokenizer=Tokenizer.from_file(str(model_dir / "tokenizer.json")),
        eos_token_ids=_read_eos(model_dir),
        batch_max=settings.batch_max,
        queue_max=settings.queue_max,
        max_model_len=settings.max_model_len or MAX_MODEL_LEN,
        settings=settings.fake,
        adapters=settings.adapter_names,
    )


def _read_eos(model_dir: Path) -> tuple[int, ...]:
    config = json.loads((model_dir / "generation_config.json").read_bytes())
    eos = config["eos_token_id"]
    return tuple(eos) if isinstance(eos, list) else (eos,)


class FakeEngine:
    """An engine that needs no model. Thread-safe as the interface asks."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        eos_token_ids: tuple[int, ...],
        *,
        batch_max: int = 32,
        queue_max: int = 256,
        max_model_len: int = MAX_MODEL_LEN,
        settings: FakeSettings | None = None,
        adapters: Iterable[str] = (),
    ) -> None:
        self._settings = settings or FakeSettings()
        self._scripts = Scripts(tokenizer, self._settings)
        self._queue_max = queue_max
        self.model = ModelInfo(
            fingerprint="fake",
            max_model_len=max_model_len,
            vocab_size=tokenizer.get_vocab_size(with_added_tokens=True),
            eos_token_ids=eos_token_ids,
            batch_max=batch_max,
            adapters=tuple(AdapterInfo(name, f"fake-{name}") for name in adapters),
            request_fields=frozenset(
                {"bad_words", "priority", "prompt_logprobs", "thinking_budget"}
            ),
        )
        self._last_prompt: tuple[int, ...] = ()
        self._prompt_tokens = 0
        self._prompt_tokens_seen = 0
        self._running: dict[RowKey, FakeRow] = {}
        self._waiting: deque[FakeRow] = deque()
        self._steps = 0
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(
        self, emit: Callable[[StepOutput], None], fail: Callable[[BaseException], None]
    ) -> None:
        """Begin to step, in a thread of its own."""
        self._thread = threading.Thread(
            target=self._run, args=(emit, fail), name="fake-engine", daemon=True
        )
        self._thread.start()

    def prepare(self, output: StructuredOutput) -> None:
        """It says what its script has, whatever is asked: there is nothing to compile."""

    def submit(self, request: GenerationRequest) -> None:
        """Queue the request's rows. Raises RequestError when the queue is full."""
        script = self._scripts.of(request)
        now = time.monotonic()
        first = now + (self._settings.prefill_ms + script.delay_ms) / 1000
        with self._changed:
            room = self._queue_max + self.model.batch_max
            if len(request.rows) > room:
                message = f"A request may have {room} rows at most."
                raise RequestError(ErrorCode.INVALID_ARGUMENT, message, "rows")
            free = self.model.batch_max - len(self._running) - len(self._waiting)
            if len(request.rows) > self._queue_max + free:
                raise RequestError(ErrorCode.OVERLOADED, "The worker's queue is full.")
            rows = (*self._waiting, *fake_rows(request, script, now, first))
            self._waiting = deque(sorted(rows, key=lambda row: row.priority))
            self._count_prompt(tuple(request.prompt_ids))
            self._changed.notify()

    def _count_prompt(self, prompt: tuple[int, ...]) -> None:
        """Count as a prefix cache that holds one prompt would. Nothing is cached."""
        self._prompt_tokens += len(prompt)
        if prompt == self._last_prompt:
            self._prompt_tokens_seen += len(prompt)
        self._last_prompt = prompt

    def abort(self, keys: Iterable[RowKey]) -> None:
        """Drop rows. Unknown keys are ignored."""
        gone = set(keys)
        with self._changed:
            for key in gone:
                self._running.pop(key, None)
            self._waiting = deque(row for row in self._waiting if row.key not in gone)

    def load(self) -> EngineLoad:
        """How busy the engine is; a row counts as one share of the KV cache."""
        running, waiting = len(self._running), len(self._waiting)
        usage = running / self.model.batch_max
        counts = (self._prompt_tokens, self._prompt_tokens_seen)
        return EngineLoad(running, waiting, usage, *counts)

    def metrics(self) -> Iterable[Metric]:
        """None of its own."""
        return ()

    def close(self) -> None:
        """Stop stepping."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _run(
        self, emit: Callable[[StepOutput], None], fail: Callable[[BaseException], None]
    ) -> None:
        try:
            while self._wait_for_rows():
                began = time.monotonic()
                self._pause(self._settings.step_ms / 1000)
                if step := self._step(began):
                    emit(step)
        except Exception as error:  # noqa: BLE001 (the service decides what a dead engine means)
            fail(error)

    def _wait_for_rows(self) -> bool:
        with self._changed:
            while not self._closed and not self._running and not self._waiting:
                self._changed.wait()
            return not self._closed

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while not self._closed and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)

    def _step(self, began: float) -> StepOutput | None:
        self._obey_settings()
        ready = self._ready_rows()
        if not ready:
            self._pause(0.001)
            return None
        # Not under the lock: a row that hangs must not hold up who submits or aborts.
        outputs = [self._advance(row) for row in ready]
        with self._changed:
            outputs = [output for output in outputs if output.key in self._running]
            for output in outputs:
                if output.finish:
                    del self._running[output.key]
        return StepOutput(outputs, batch_size=len(ready), seconds=time.monotonic() - began)

    def _ready_rows(self) -> list[FakeRow]:
        with self._changed:
            while self._waiting and len(self._running) < self.model.batch_max:
                row = self._waiting.popleft()
                self._running[row.key] = row
            now = time.monotonic()
            return [row for row in self._running.values() if row.first_token_at <= now]

    def _obey_settings(self) -> None:
        self._steps += 1
        if self._steps == self._settings.crash_after_steps:
            os._exit(70)
        if self._steps == self._settings.hang_after_steps:
            self._hang()
        if self._steps == self._settings.fail_after_steps:
            raise RuntimeError("FAKE_FAIL_AFTER_STEPS was reached")

    def _hang(self) -> None:
        while not self._closed:
            time.sleep(0.01)

    def _advance(self, row: FakeRow) -> RowOutput:
        output = RowOutput(row.key, [])
        if not row.started:
            row.started = True
            queued = time.monotonic() - row.submitted
            output.start = RowStart(queue_seconds=queued, prefill_seconds=0.0)
            output.prompt_logprobs = self._of_prompt(row)
        at_end = row.script.tokens and row.position >= row.script.tokens
        sampling = row.sampling
        if at_end and not sampling.ignore_eos and row.position >= sampling.min_tokens:
            return self._end(row, output)
        try:
            token_id = row.next_token()
        except RequestError as error:
            output.finish = RowFinish(FinishReason.ERROR, error=error)
            return output
        self._put(row, output, token_id)
        if token_id in sampling.stop_token_ids and row.position > sampling.min_tokens:
            output.finish = RowFinish(FinishReason.STOP, token_id)
        elif row.position >= sampling.max_tokens:
            output.finish = RowFinish(FinishReason.LENGTH)
        return output

    def _end(self, row: FakeRow, output: RowOutput) -> RowOutput:
        if row.script.end == "crash":
            os._exit(70)
        if row.script.end == "hang":
            self._hang()
        if row.script.end == "error":
            error = RequestError(ErrorCode.INTERNAL, "The fake engine failed this row, as asked.")
            output.finish = RowFinish(FinishReason.ERROR, error=error)
            return output
        eos = self.model.eos_token_ids[0]
        self._put(row, output, eos)
        output.finish = RowFinish(FinishReason.STOP, eos)
        return output

    def _put(self, row: FakeRow, output: RowOutput, token_id: int) -> None:
        output.token_ids.append(token_id)
        row.took(token_id)
        if row.sampling.logprobs is not None:
            output.logprobs = [self._logprobs(token_id, row.sampling.logprobs)]

    def _of_prompt(self, row: FakeRow) -> PromptLogprobs | None:
        count = row.sampling.prompt_logprobs
        if count is None or len(row.scored) < 2:
            return None
        return PromptLogprobs(1, [self._logprobs(token, count) for token in row.scored[1:]])

    def _logprobs(self, token_id: int, count: int) -> TokenLogprobs:
        """Made up, and the same each time: the chosen token first, then its neighbours."""
        top = tuple(
            ((token_id + rank) % self.model.vocab_size, -0.25 - rank) for rank in range(count)
        )
        return TokenLogprobs(-0.25, top)
