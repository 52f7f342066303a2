"""Drives an engine in tests: by its thread, or step by step without one."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import torch
from sluice_worker.engines.base import (
    GenerationRequest,
    RowFinish,
    RowKey,
    RowOutput,
    RowSpec,
    SamplingParams,
    StepOutput,
    TokenLogprobs,
)
from sluice_worker.engines.hf.engine import HfEngine
from sluice_worker.engines.hf.loop import StepLoop

GREEDY = {"temperature": 0.0}


class Results:
    """What came out for each row."""

    def __init__(self) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.logprobs: dict[int, list[TokenLogprobs]] = {}
        self.finish: dict[int, RowFinish] = {}
        self.starts: dict[int, Any] = {}
        self.steps: list[StepOutput] = []

    def add(self, output: StepOutput) -> None:
        self.steps.append(output)
        for row in output.rows:
            self._add_row(row)

    def _add_row(self, row: RowOutput) -> None:
        name = row.key.row_id
        assert name not in self.finish, "output after the finish"
        self.tokens.setdefault(name, []).extend(row.token_ids)
        if row.logprobs is not None:
            assert len(row.logprobs) == len(row.token_ids)
            self.logprobs.setdefault(name, []).extend(row.logprobs)
        if row.start is not None:
            assert name not in self.starts
            self.starts[name] = row.start
        if row.finish is not None:
            self.finish[name] = row.finish


def request(
    prompt: list[int],
    row: int,
    *,
    seed: int = 0,
    generated: Iterable[int] = (),
    rows: int = 1,
    max_tokens: int = 24,
    **sampling: Any,
) -> GenerationRequest:
    """A request of ``rows`` rows, named from ``row`` on, seeded from ``seed`` on."""
    params = SamplingParams(max_tokens=max_tokens, **{**GREEDY, **sampling})
    specs = (RowSpec(RowKey(0, row + i), seed + i, tuple(generated)) for i in range(rows))
    return GenerationRequest(prompt, params, tuple(specs))


class Stepper:
    """Steps a loaded engine's parts in the test's own thread, so that joins are exact."""

    def __init__(self, engine: HfEngine) -> None:
        assert engine._scheduler is not None
        assert engine._runner is not None
        assert engine._draw is not None
        self.engine = engine
        self.scheduler = engine._scheduler
        self.runner = engine._runner
        self.results = Results()
        self._loop = StepLoop(self.runner, self.scheduler, engine._draw)
        assert not self.scheduler.running, "an earlier test left rows"

    def submit(self, what: GenerationRequest) -> None:
        self.scheduler.add(self.engine.make_rows(what))

    def abort(self, *rows: int) -> None:
        with torch.inference_mode():
            self.scheduler.drop({RowKey(0, row) for row in rows})

    def step(self) -> StepOutput | None:
        with torch.inference_mode():
            plan = self.scheduler.plan()
            if plan is None:
                return None
            output = self._loop.run(plan)
        self.results.add(output)
        return output

    def run(self, limit: int = 10_000) -> Results:
        """Step until nothing is left."""
        for _ in range(limit):
            if self.step() is None and not self.scheduler.waiting:
                assert not self.scheduler.running
                assert self.scheduler.usage == 0.0
                return self.results
        raise AssertionError("rows are stuck")


class Service:
    """Runs an engine's own thread and gathers what it emits."""

    def __init__(self, engine: HfEngine) -> None:
        self.engine = engine
        self.results = Results()
        self.failure: BaseException | None = None
        self._changed = threading.Condition()
        engine.start(self._emit, self._fail)

    def _emit(self, output: StepOutput) -> None:
        with self._changed:
            self.results.add(output)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self.failure = error
            self._changed.notify_all()

    def wait(self, *rows: int, timeout: float = 60.0) -> Results:
        """Until the rows have finished."""
        self.wait_for(lambda: all(row in self.results.finish for row in rows), timeout)
        return self.results

    def wait_for(self, condition: Any, timeout: float = 60.0) -> None:
        with self._changed:
            done = self._changed.wait_for(lambda: self.failure or condition(), timeout)
        assert self.failure is None, self.failure
        assert done, "timed out"
