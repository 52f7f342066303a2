"""Runs steps, and answers for what fails in them."""

from __future__ import annotations

import logging
import time

import torch

from sluice_worker.engines.base import (
    ErrorCode,
    FinishReason,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    StepOutput,
)
from sluice_worker.engines.hf.batch import Runner
from sluice_worker.engines.hf.prompt_scores import joined, prompt_logprobs
from sluice_worker.engines.hf.row import Row
from sluice_worker.engines.hf.sampler import Choice, DrawTokens, sample
from sluice_worker.engines.hf.scheduler import Scheduler, Step

log = logging.getLogger(__name__)

FAILURES_MAX = 3
"""Steps that may fail one after another before the engine gives up."""


class StepLoop:
    """Computes and samples planned steps.

    A row that fails is answered with an error and the others go on. So do the rows of
    a step that fails as a whole, up to ``FAILURES_MAX`` steps one after another.
    """

    def __init__(self, runner: Runner, scheduler: Scheduler, draw: DrawTokens) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._draw = draw
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
        if not step.scored:  # logits of prompts take time of their own
            self._scheduler.pace.note(step.decoding, step.prompt_tokens, seconds)
        return StepOutput(rows, len(step.rows), seconds, step.prompt_tokens)

    def _compute(self, step: Step) -> list[RowOutput]:
        logits = self._runner.forward(step.spans)
        self._scheduler.computed(step)
        outputs = self._score(step, logits) if step.scored else {}
        if step.scored:
            logits = logits[torch.tensor(step.places, dtype=torch.long)]
        choices = sample(logits, [row.sampler for row in step.answering], self._draw)
        for row, choice in zip(step.answering, choices, strict=True):
            said = outputs.get(row.key)
            if said is None or said.finish is None:
                outputs[row.key] = self._answer(row, choice, said)
        return list(outputs.values())

    def _answer(self, row: Row, choice: Choice, said: RowOutput | None) -> RowOutput:
        """The row's output with its next token; ``said`` is what it says of its prompt."""
        if choice.error is not None:
            return self._fail(row, choice.error)
        self._scheduler.sound(row)
        try:
            output = row.take(choice)
        except Exception as error:  # noqa: BLE001 (the row's)
            return self._fail(row, error)
        output.prompt_logprobs = said.prompt_logprobs if said else None
        if output.finish is not None:
            self._scheduler.finish(row)
        return output

    def _score(self, step: Step, logits: torch.Tensor) -> dict[RowKey, RowOutput]:
        """What rows say of their prompts. A row of which that fails has its error."""
        outputs: dict[RowKey, RowOutput] = {}
        for row, span, place in step.scored:
            said = outputs.setdefault(row.key, RowOutput(row.key, []))
            if said.finish is None:
                try:
                    told = prompt_logprobs(row, span, logits[place : place + len(span.tokens)])
                    said.prompt_logprobs = joined(said.prompt_logprobs, told)
                except Exception as error:  # noqa: BLE001 (the row's)
                    outputs[row.key] = self._fail(row, error)
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
