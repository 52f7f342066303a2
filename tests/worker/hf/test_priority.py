"""Priorities in the hf engine: who comes first, and who makes room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader, Zoo
from tests.worker.hf.driver import Stepper, request


def of(priority: int, *given: Any, **fields: Any) -> Any:
    return replace(request(*given, ignore_eos=True, **fields), priority=priority)


def running(stepper: Stepper) -> list[int]:
    return [row.key.row_id for row in stepper.scheduler.running]


def test_prompts_are_computed_by_priority(engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=4, prefill_chunk=64))
    prompt = list(range(2, 66))
    for row, priority in enumerate((0, 5, -5)):
        stepper.submit(of(priority, prompt[row:], row, max_tokens=2))
    stepper.run()
    begun = [row.key.row_id for step in stepper.results.steps for row in step.rows if row.start]
    assert begun == [2, 0, 1]


def test_the_last_by_priority_makes_room_and_says_the_same(engine_of: Loader, zoo: Zoo) -> None:
    shape = engine_of("llama")._runner.cache.shape  # type: ignore[union-attr]
    size = shape.block_bytes * (320 // shape.block_tokens)
    stepper = Stepper(engine_of("llama", kv_cache_bytes=size, batch_max=3))
    lot = [(models.prompts(1, seed)[0] * 100)[:100] for seed in (1, 2, 3)]
    before = stepper.scheduler.preemptions
    for row, (prompt, priority) in enumerate(zip(lot, (2, 1, 0), strict=True)):
        stepper.submit(of(priority, prompt, row, max_tokens=90))
    ended: list[int] = []
    while stepper.step():
        ended += [row.key.row_id for row in stepper.results.steps[-1].rows if row.finish]
    assert stepper.scheduler.preemptions > before
    assert ended[-1] == 0
    for row, prompt in enumerate(lot):
        expected = zoo.reference("llama").greedy(prompt, 90)
        assert stepper.results.tokens[row][: len(expected)] == expected


def test_a_row_that_made_room_is_before_those_that_came_later(engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=2))
    for row, priority in enumerate((0, 0, 0, -1)):
        stepper.submit(of(priority, [5, 6, 7 + row], row, max_tokens=4))
    stepper.step()
    assert running(stepper) == [3, 0]
    stepper.scheduler._preempt(stepper.scheduler.running[-1])
    assert [row.key.row_id for row in stepper.scheduler.waiting] == [0, 1, 2]
    stepper.run()
