"""Drives an engine: sends requests, keeps what comes."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from typing import Any

from sluice_worker.engines.base import (
    Engine,
    GenerationRequest,
    RowFinish,
    RowKey,
    RowSpec,
    RowStart,
    SamplingParams,
    StepOutput,
    TokenLogprobs,
)
from sluice_worker.lifecycle import State
from sluice_worker.progress import Progress

PROMPT = (5, 6, 7, 8, 9, 10, 11)


class Recorder:
    """Keeps what an engine tells while it loads."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.bytes: list[int] = []
        self.notes: list[str] = []

    def state(self, state: State) -> None:
        self.states.append(state)

    def progress(self, progress: Progress) -> None:
        assert 0 <= progress.bytes_done <= progress.bytes_total
        self.bytes.append(progress.bytes_done)

    def note(self, message: str) -> None:
        self.notes.append(message)


class Driver:
    """An engine under way and all that it emitted."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.steps: list[StepOutput] = []
        self.failures: list[BaseException] = []
        self.ids: defaultdict[RowKey, list[int]] = defaultdict(list)
        self.logprobs: defaultdict[RowKey, list[TokenLogprobs]] = defaultdict(list)
        self.starts: dict[RowKey, RowStart] = {}
        self.finishes: dict[RowKey, RowFinish] = {}
        self.changed = threading.Condition()
        self._numbers = itertools.count(1)
        engine.start(self._emit, self.failures.append)

    def _emit(self, step: StepOutput) -> None:
        with self.changed:
            self.steps.append(step)
            for row in step.rows:
                self.ids[row.key] += row.token_ids
                self.logprobs[row.key] += row.logprobs or ()
                if row.start:
                    assert row.key not in self.starts
                    self.starts[row.key] = row.start
                if row.finish:
                    assert row.key not in self.finishes
                    self.finishes[row.key] = row.finish
            self.changed.notify_all()

    def request(
        self,
        prompt: tuple[int, ...] = PROMPT,
        *,
        rows: int = 1,
        seed: int = 3,
        generated: tuple[int, ...] = (),
        adapter: str = "",
        **sampling: Any,
    ) -> GenerationRequest:
        """A greedy request of 16 tokens, unless said otherwise."""
        given = {"max_tokens": 16, "temperature": 0.0, "ignore_eos": True, **sampling}
        specs = tuple(
            RowSpec(RowKey(1, next(self._numbers)), seed + number, generated)
            for number in range(rows)
        )
        return GenerationRequest(prompt, SamplingParams(**given), specs, "test", adapter)

    def submit(self, request: GenerationRequest) -> list[RowKey]:
        self.engine.submit(request)
        return [spec.key for spec in request.rows]

    def wait(self, *keys: RowKey, seconds: float = 60) -> None:
        """Until these rows have ended."""
        self.until(lambda: all(key in self.finishes for key in keys), seconds)

    def until(self, condition: Any, seconds: float = 60) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, seconds), self.steps[-3:]

    def run(self, *prompt: int, **given: Any) -> list[int]:
        """The ids that one row came to."""
        return self.ids[self.finished(*prompt, **given)]

    def finished(self, *prompt: int, **given: Any) -> RowKey:
        """The key of one row that has ended."""
        (key,) = self.submit(self.request(prompt or PROMPT, **given))
        self.wait(key)
        return key
