"""Prompts are cut to what fits into a step beside the rows that decode."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from sluice_worker.engines.hf.pace import Pace

from tests.worker.hf.conftest import Loader
from tests.worker.hf.driver import Stepper, request

MOST, TILE = 256, 64


def taught(
    step_seconds: float, *, decoding: float = 0.02, per_token: float = 0.0005, steps: int = 5
) -> Pace:
    """A pace that saw steps that take so long, of both kinds."""
    pace = Pace(step_seconds, MOST, TILE)
    for _ in range(steps):
        pace.note(8, 0, decoding)
        pace.note(8, 128, decoding + 128 * per_token)
    return pace


@pytest.mark.parametrize(
    ("step_seconds", "tokens"),
    [(0.0, 64), (0.05, 64), (0.0839, 64), (0.0841, 128), (0.12, 192), (0.15, 256), (9.0, 256)],
)
def test_as_many_whole_tiles_as_fit(step_seconds: float, tokens: int) -> None:
    assert taught(step_seconds).allowed(8) == tokens


def test_without_a_bound_or_rows_that_wait_there_is_all() -> None:
    assert taught(math.inf).allowed(8) == MOST
    assert taught(0.0).allowed(0) == MOST
    assert Pace(0.01, MOST, TILE).allowed(8) == MOST  # nothing is known yet


def test_a_chunk_that_is_no_whole_number_of_tiles_is_had_whole() -> None:
    pace = Pace(9.0, 100, TILE)
    pace.note(1, 64, 0.03)
    assert pace.allowed(1) == 100


def test_one_step_that_the_system_held_up_changes_nothing() -> None:
    pace = taught(0.12)
    pace.note(8, 128, 3.0)
    pace.note(8, 0, 2.0)
    assert pace.allowed(8) == 192


def test_it_follows_a_batch_that_grows() -> None:
    pace = taught(0.12)
    for _ in range(5):
        pace.note(32, 0, 0.09)
    assert pace.allowed(32) == 64


def test_prompts_alone_tell_what_a_token_takes() -> None:
    pace = Pace(0.1, MOST, TILE)
    pace.note(0, 256, 0.256)
    assert pace.allowed(3) == 64
    assert pace.allowed(0) == MOST


@pytest.mark.parametrize(
    ("step_ms", "beside"), [(0.0, [256, 144]), (0.001, [64, 64, 64, 64, 64, 64, 16])]
)
def test_rows_that_decode_are_held_up_by_no_more_than_fits(
    step_ms: float, beside: Sequence[int], engine_of: Loader
) -> None:
    stepper = Stepper(engine_of("llama", batch_max=3, prefill_step_ms=step_ms))
    long = [token % 90 for token in range(400)]
    stepper.submit(request([1, 2, 3], 1, max_tokens=30, ignore_eos=True))
    stepper.step()
    stepper.step()
    stepper.submit(request(long, 2, max_tokens=4, ignore_eos=True))
    results = stepper.run()
    prompts = [step.prompt_tokens for step in results.steps[1:] if step.prompt_tokens]
    assert prompts == list(beside)
    alone = Stepper(engine_of("llama", batch_max=3, prefill_step_ms=0.0))
    alone.submit(request(long, 3, max_tokens=4, ignore_eos=True))
    assert alone.run().tokens[3] == results.tokens[2]
