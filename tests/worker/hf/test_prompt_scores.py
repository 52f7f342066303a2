"""Log-probabilities of prompts, against those of transformers' own logits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sluice_worker.engines.base import FinishReason, TokenLogprobs
from sluice_worker.engines.hf import scheduler as scheduling
from sluice_worker.engines.hf.scheduler import Scheduler

from tests.worker.hf.conftest import Loader, Zoo
from tests.worker.hf.driver import Results, Stepper, request
from tests.worker.hf.models import prompts


def told(results: Results, row: int) -> list[TokenLogprobs]:
    """What the row told of its prompt: in order, and before its first token or with it."""
    entries: list[TokenLogprobs] = []
    for step in results.steps:
        for output in step.rows:
            if output.key.row_id == row and output.prompt_logprobs is not None:
                assert output.prompt_logprobs.position == len(entries) + 1
                entries += output.prompt_logprobs.entries
                assert results.tokens[row][: len(output.token_ids)] == output.token_ids
    return entries


def check(zoo: Zoo, kind: str, prompt: list[int], entries: list[TokenLogprobs], top: int) -> None:
    expected = torch.log_softmax(zoo.reference(kind).logits(prompt), dim=-1)
    assert len(entries) == len(prompt) - 1
    for place, entry in enumerate(entries):
        best = expected[place].topk(top) if top else None
        assert math.isclose(entry.logprob, expected[place, prompt[place + 1]], abs_tol=2e-3)
        assert len(entry.top) == top
        for rank, (token, value) in enumerate(entry.top):
            assert best is not None
            assert math.isclose(value, best.values[rank], abs_tol=2e-3)
            assert math.isclose(value, expected[place, token], abs_tol=2e-3)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2", "gemma2", "bloom"])
def test_they_are_those_of_transformers(engine_of: Loader, zoo: Zoo, kind: str) -> None:
    stepper = Stepper(engine_of(kind, batch_max=6))
    lengths = (1, 2, 63, 64, 65, 150)
    asked = [prompts(1, seed=size, longest=150)[0] for size in lengths]
    asked = [(prompt * 150)[:size] for prompt, size in zip(asked, lengths, strict=True)]
    for row, prompt in enumerate(asked):
        stepper.submit(request(prompt, row, max_tokens=3, prompt_logprobs=row % 4))
    results = stepper.run()
    for row, prompt in enumerate(asked):
        check(zoo, kind, prompt, told(results, row), row % 4)
        assert results.tokens[row] == zoo.reference(kind).greedy(prompt, 3)


def test_only_the_first_row_of_a_request_tells_of_the_prompt(engine_of: Loader, zoo: Zoo) -> None:
    stepper = Stepper(engine_of("llama", batch_max=6))
    prompt = prompts(1, seed=9)[0] + list(range(2, 140))
    stepper.submit(request(prompt, 0, rows=3, prompt_logprobs=1, temperature=1.0))
    results = stepper.run()
    check(zoo, "llama", prompt, told(results, 0), 1)
    assert not told(results, 1)
    assert not told(results, 2)
    assert results.starts[1].cached_tokens > 0


def test_a_prompt_that_is_cached_is_computed_again(engine_of: Loader, zoo: Zoo) -> None:
    stepper = Stepper(engine_of("llama", batch_max=6))
    prompt = list(range(2, 200))
    for row in (0, 2):
        stepper.submit(request(prompt, row, max_tokens=2))
        stepper.submit(request(prompt, row + 1, max_tokens=2, prompt_logprobs=0))
        results = stepper.run()
        check(zoo, "llama", prompt, told(results, row + 1), 0)
        assert results.starts[row + 1].cached_tokens == 0
        assert results.tokens[row] == results.tokens[row + 1]
    assert results.starts[2].cached_tokens > 0


def test_they_are_the_same_in_every_company(engine_of: Loader) -> None:
    prompt = list(range(2, 180))

    def run(**others: Any) -> list[TokenLogprobs]:
        stepper = Stepper(engine_of("llama", batch_max=6))
        for row in range(1, others.get("rows", 1)):
            stepper.submit(request(prompt[row:], row, max_tokens=9))
            stepper.step()
        stepper.submit(request(prompt, 0, max_tokens=2, prompt_logprobs=2))
        return told(stepper.run(), 0)

    assert run() == run(rows=5)


def test_the_logits_of_a_step_are_bounded(
    engine_of: Loader, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "SCORED_BYTES", 1)
    engine = engine_of("llama", batch_max=5)
    old = Stepper(engine).scheduler
    engine._scheduler = Scheduler(old._runner, old._budget, 5, 256, 64)
    stepper = Stepper(engine)
    asked = [list(range(2, 2 + size)) for size in (200, 130, 64)]
    for row, prompt in enumerate(asked):
        stepper.submit(request(prompt, row, max_tokens=20, prompt_logprobs=1))
    sizes = []
    forward = stepper.runner.forward

    def watched(spans: Any) -> torch.Tensor:
        logits = forward(spans)
        sizes.append(len(logits))
        return logits

    monkeypatch.setattr(stepper.runner, "forward", watched)
    results = stepper.run()
    assert max(sizes) <= 64 + len(asked)
    for row, prompt in enumerate(asked):
        check(zoo, "llama", prompt, told(results, row), 1)


def test_a_row_that_was_preempted_tells_nothing_twice(engine_of: Loader, zoo: Zoo) -> None:
    stepper = Stepper(engine_of("llama", batch_max=7, prefill_chunk=64))
    prompt = list(range(2, 202))
    stepper.submit(request(prompt, 0, max_tokens=4, prompt_logprobs=1))
    stepper.step()
    stepper.step()
    (row,) = stepper.scheduler.running
    with torch.inference_mode():
        stepper.scheduler._preempt(row)
    results = stepper.run()
    check(zoo, "llama", prompt, told(results, 0), 1)
    assert results.tokens[0] == zoo.reference("llama").greedy(prompt, 4)


def test_a_poisoned_prompt_fails_alone(
    engine_of: Loader, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper = Stepper(engine_of("llama", batch_max=6))
    prompt = list(range(2, 100))
    stepper.submit(request(prompt, 0, max_tokens=3, prompt_logprobs=1))
    stepper.submit(request(prompt[::-1], 1, max_tokens=3))
    forward = stepper.runner.forward

    def poisoned(spans: Any) -> torch.Tensor:
        logits = forward(spans)
        if spans[0].wants_all:
            logits[3] = math.nan
        return logits

    monkeypatch.setattr(stepper.runner, "forward", poisoned)
    results = stepper.run()
    assert results.finish[0].reason is FinishReason.ERROR
    assert results.tokens[1] == zoo.reference("llama").greedy(prompt[::-1], 3)
