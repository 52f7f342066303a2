"""Runs steps, and answers for what fails in them."""

from __future__ import annotations

import logging
import time

from sluice_worker.engines.base import (
    ErrorCode,
    FinishReason,
    RequestError,
    RowFinish,
    RowOutput,
    StepOutput,
)
from sluice_worker.engines.hf.batch import Runner
from sluice_worker.engines.hf.row import Row
from sluice_worker.engines.hf.sampler import sample
from sluice_worker.engines.hf.scheduler import Scheduler, Step

log = logging.getLogger(__name__)

FAILURES_MAX = 3
"""Steps that may fail one after another before the engine gives up."""


class StepLoop:
    """Computes and samples planned steps.

    A row that fails is answered with an error and the others go on. So do the rows of
    a step that fails as a whole, up to ``FAILURES_MAX`` steps one after another.
    """

    def __init__(self, runner: Runner, scheduler: Scheduler) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._failures = 0

    def run(self, step: Step) -> StepOutput:
        """Compute the step and say what came of each of its rows."""
        begin = time.monotonic()
        try:
            rows = self._compute(step)
            self._failures = 0
        except Exception:
            log.exception("a step of %d rows failed", len(step.rows))
            self._failures += 1
            if self._failures >= FAILURES_MAX:
                raise
            rows = [self._fail(row) for row in step.rows]
        seconds = time.monotonic() - begin
        return StepOutput(rows, len(step.rows), seconds, step.prompt_tokens)

    def _compute(self, step: Step) -> list[RowOutput]:
        logits = self._runner.forward(step.spans)
        self._scheduler.computed(step)
        outputs = []
        choices = sample(logits, [row.sampler for row in step.answering])
        for row, choice in zip(step.answering, choices, strict=True):
            if choice.error is not None:
                outputs.append(self._fail(row, choice.error))
                continue
            self._scheduler.sound(row)
            output = row.take(choice)
            outputs.append(output)
            if output.finish is not None:
                self._scheduler.finish(row)
        return outputs

    def _fail(self, row: Row, cause: Exception | None = None) -> RowOutput:
        if isinstance(cause, RequestError):  # no fault of what it computed
            self._scheduler.finish(row)
        else:
            self._scheduler.fail(row)
        if isinstance(cause, RequestError):
            error = cause
        else:
            error = RequestError(ErrorCode.INTERNAL, "The model failed on this row.")
            if cause is not None:
                log.error("a row failed: %s", cause, exc_info=cause)
        return RowOutput(row.key, [], finish=RowFinish(FinishReason.ERROR, error=error))
