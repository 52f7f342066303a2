"""One bad row, or one bad step, takes nobody else along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sluice_worker.engines.base import ErrorCode, FinishReason
from sluice_worker.engines.hf import HfOptions, load
from sluice_worker.engines.hf.loop import FAILURES_MAX

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader, Zoo
from tests.worker.hf.driver import Service, Stepper, request

POISON = 77


@pytest.fixture(scope="module")
def poisonous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in which one token's embedding is not a number."""
    model = models.build("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[POISON] = torch.nan
    return models.save(model, tmp_path_factory.mktemp("poison"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_poison_row_fails_alone_and_its_slot_is_clean_again(
    dtype: str, poisonous: Path, zoo: Zoo
) -> None:
    reference = zoo.reference("llama", dtype)
    options = HfOptions(poisonous, batch_max=4, dtype=dtype, num_threads=1)
    stepper = Stepper(load(options, lambda *news: None))
    prompts = [
        [token for token in prompt if token != POISON] for prompt in models.prompts(12, 31, 90)
    ]
    poisoned = {1, 4, 6}
    for row, prompt in enumerate(prompts):
        middle = len(prompt) // 2
        bad = [*prompt[:middle], POISON, *prompt[middle:]]
        stepper.submit(request(bad if row in poisoned else prompt, row))
    results = stepper.run()
    for row, prompt in enumerate(prompts):
        if row in poisoned:
            finish = results.finish[row]
            assert finish.reason is FinishReason.ERROR
            assert finish.error is not None
            assert finish.error.code is ErrorCode.INTERNAL
            assert results.tokens[row] == []
        else:
            expected = reference.greedy(prompt, 24)
            if POISON not in expected:
                assert results.tokens[row] == expected


class Breaking:
    """A runner that fails at some forward passes."""

    def __init__(self, runner: Any, failures: set[int]) -> None:
        self._runner = runner
        self._failures = failures
        self._passes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def forward(self, spans: Any) -> torch.Tensor:
        self._passes += 1
        if self._passes - 1 in self._failures:
            raise RuntimeError("no memory")
        result: torch.Tensor = self._runner.forward(spans)
        return result


def test_a_step_that_fails_takes_its_rows_and_the_engine_goes_on(
    zoo: Zoo, engine_of: Loader
) -> None:
    stepper = Stepper(engine_of("llama", batch_max=2))
    stepper._loop._runner = Breaking(stepper.runner, {3})
    prompts = models.prompts(5, 32, 60)
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row, max_tokens=10, ignore_eos=True))
    results = stepper.run()
    failed = [row for row in range(5) if results.finish[row].reason is FinishReason.ERROR]
    assert failed == [0, 1]
    for row in (2, 3, 4):
        assert len(results.tokens[row]) == 10


def test_a_row_that_fails_over_its_token_takes_nobody_along(engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=3))
    asked = [
        request(prompt, row, max_tokens=4, ignore_eos=True)
        for row, prompt in enumerate(models.prompts(3, 33, 60))
    ]
    rows = [row for each in asked for row in stepper.engine.make_rows(each)]

    def broken(token: int) -> None:
        raise IndexError(token)

    rows[1].sampler.took = broken  # type: ignore[method-assign]
    stepper.scheduler.add(rows)
    results = stepper.run()
    error = results.finish[1].error
    assert error is not None
    assert error.code is ErrorCode.INTERNAL
    for row in (0, 2):
        assert results.finish[row].reason is FinishReason.LENGTH
        assert len(results.tokens[row]) == 4


def test_an_engine_whose_steps_keep_failing_says_so_once(zoo: Zoo) -> None:
    engine = load(HfOptions(zoo.path("llama"), batch_max=1, num_threads=1), lambda *news: None)
    engine._runner = Breaking(engine._runner, set(range(1000)))  # type: ignore[assignment]
    service = Service(engine)
    for row in range(FAILURES_MAX):
        engine.submit(request([1, 2], row))
    with pytest.raises(AssertionError, match="no memory"):
        service.wait(*range(FAILURES_MAX))
    assert isinstance(service.failure, RuntimeError)
    engine.close()
