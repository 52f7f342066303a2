"""The engine's thread: what the service sees of it."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from sluice_worker.engines.base import (
    ErrorCode,
    FinishReason,
    GenerationRequest,
    RequestError,
    RowKey,
    RowSpec,
    SamplingParams,
)
from sluice_worker.engines.hf import HfOptions, load
from sluice_worker.engines.hf.engine import HfEngine

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader, Zoo
from tests.worker.hf.driver import Service, Stepper, request


@pytest.fixture
def fresh(zoo: Zoo) -> Any:
    """Loads engines of one test, to be started."""
    engines: list[HfEngine] = []

    def make(kind: str = "llama", **options: Any) -> HfEngine:
        values = {"dtype": "float32", "num_threads": 1, **options}
        engines.append(load(HfOptions(zoo.path(kind), **values), lambda *news: None))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def test_rows_submitted_from_many_threads_get_their_own_text(zoo: Zoo, fresh: Any) -> None:
    service = Service(fresh(batch_max=4))
    reference = zoo.reference("llama")
    prompts = models.prompts(12, 1, 100)

    def client(row: int) -> None:
        service.engine.submit(request(prompts[row], row, max_tokens=12))

    threads = [threading.Thread(target=client, args=(row,)) for row in range(12)]
    for thread in threads:
        thread.start()
    results = service.wait(*range(12))
    for thread in threads:
        thread.join()
    for row in range(12):
        assert results.tokens[row] == reference.greedy(prompts[row], 12)
        start = results.starts[row]
        assert start.queue_seconds >= 0
        assert start.prefill_seconds > 0
    assert service.engine.load().rows_running == 0
    assert service.engine.load().rows_waiting == 0
    assert max(step.batch_size for step in results.steps) <= 4


def test_an_idle_engine_gathers_rows_into_its_first_step(fresh: Any) -> None:
    service = Service(fresh(batch_max=8, batch_delay_ms=400.0))
    for row in range(5):
        service.engine.submit(request([5, 6, 7], row, max_tokens=2, ignore_eos=True))
        time.sleep(0.01)
    results = service.wait(*range(5))
    assert [step.batch_size for step in results.steps] == [5, 5]
    begin = time.monotonic()
    for row in range(10, 18):
        service.engine.submit(request([5, 6, 7], row, max_tokens=1))
    service.wait(*range(10, 18))
    assert time.monotonic() - begin < 0.39, "a full batch need not wait"


def test_an_abort_frees_the_row_wherever_it_is(fresh: Any) -> None:
    engine = fresh(batch_max=1, prefill_chunk=16, batch_delay_ms=0.0)
    service = Service(engine)
    prompt = models.prompts(1, 2, 300)[0] * 4
    engine.submit(request(prompt[:16], 0, max_tokens=450, ignore_eos=True))
    engine.submit(request(prompt[:400], 1, max_tokens=20, ignore_eos=True))
    engine.submit(request(prompt[:20], 2, max_tokens=5, ignore_eos=True))
    service.wait_for(lambda: len(service.results.tokens.get(0, ())) >= 3)
    engine.abort([RowKey(0, 2), RowKey(9, 9)])
    engine.abort([RowKey(0, 0)])
    count = len(service.results.tokens[0])
    engine.submit(request(prompt[:20], 3, max_tokens=5, ignore_eos=True))
    results = service.wait(1, 3)
    assert len(results.tokens[0]) <= count + 1
    assert 0 not in results.finish
    assert 2 not in results.tokens
    service.wait_for(lambda: engine.load().kv_cache_usage == 0.0)


def test_a_row_aborted_while_its_step_is_under_way_emits_nothing(fresh: Any) -> None:
    engine = fresh(batch_max=2)
    compute = engine._runner.forward
    passes = iter(range(10_000))

    def forward(spans: Any) -> torch.Tensor:
        if next(passes) == 3:
            engine.abort([RowKey(0, 1)])
        result: torch.Tensor = compute(spans)
        return result

    engine._runner.forward = forward
    engine.submit(request([4, 5], 0, max_tokens=12, ignore_eos=True))
    engine.submit(request([4, 5, 6], 1, max_tokens=12, ignore_eos=True))
    results = Service(engine).wait(0)
    assert len(results.tokens[0]) == 12
    assert len(results.tokens[1]) == 3
    assert 1 not in results.finish


def test_all_steps_of_a_long_prompt_are_told_of_though_none_but_the_last_brings_a_token(
    fresh: Any,
) -> None:
    engine = fresh(batch_max=2, prefill_chunk=64)
    prompt = [4 + number % 50 for number in range(200)]
    engine.submit(request(prompt, 0, max_tokens=1))
    steps = Service(engine).wait(0).steps
    assert len(steps) > 1
    assert [bool(step.rows) for step in steps] == [False] * (len(steps) - 1) + [True]
    assert sum(step.prompt_tokens for step in steps) == len(prompt)
    assert all(step.batch_size == 1 and step.seconds > 0 for step in steps)


def test_rows_put_back_for_want_of_memory_are_counted(fresh: Any) -> None:
    roomy = fresh(batch_max=1)
    bytes_of_a_block = roomy._runner.cache.shape.block_bytes
    blocks = 200 // roomy._scheduler._budget.block_tokens
    engine = fresh(batch_max=8, kv_cache_bytes=bytes_of_a_block * blocks)
    service = Service(engine)
    assert engine.load().preemptions == 0
    for row in range(6):
        engine.submit(request([4 + row] * 30, row, max_tokens=60, ignore_eos=True))
    service.wait(*range(6))
    assert engine.load().preemptions > 0


def test_a_full_queue_refuses_at_once_and_takes_again_later(fresh: Any) -> None:
    engine = fresh(batch_max=2, queue_max=3)
    for row in range(5):
        engine.submit(request([4, 5], row, max_tokens=3))
    with pytest.raises(RequestError) as refused:
        engine.submit(request([4, 5], 5, max_tokens=3))
    assert refused.value.code is ErrorCode.OVERLOADED
    assert engine.load().rows_waiting == 5
    service = Service(engine)
    service.wait(*range(5))
    engine.submit(request([4, 5], 6, max_tokens=3))
    service.wait(6)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"prompt_ids": []}, ErrorCode.INVALID_ARGUMENT, "prompt_ids"),
        ({"prompt_ids": [1, 256]}, ErrorCode.INVALID_ARGUMENT, "prompt_ids"),
        ({"prompt_ids": [-1]}, ErrorCode.INVALID_ARGUMENT, "prompt_ids"),
        ({"rows": ()}, ErrorCode.INVALID_ARGUMENT, "rows"),
        ({"logit_bias": {256: 1.0}}, ErrorCode.INVALID_ARGUMENT, "sampling.logit_bias"),
        ({"stop_token_ids": (999,)}, ErrorCode.INVALID_ARGUMENT, "sampling.stop_token_ids"),
        ({"allowed_token_ids": (256,)}, ErrorCode.INVALID_ARGUMENT, "sampling.allowed_token_ids"),
        ({"generated_ids": (300,)}, ErrorCode.INVALID_ARGUMENT, "rows.generated_ids"),
        ({"generated_ids": (1,) * 8}, ErrorCode.INVALID_ARGUMENT, "rows.generated_ids"),
        ({"max_tokens": 510}, ErrorCode.CONTEXT_LENGTH_EXCEEDED, "max_tokens"),
        ({"prompt_ids": [1] * 505}, ErrorCode.CONTEXT_LENGTH_EXCEEDED, "max_tokens"),
    ],
)
def test_what_can_never_be_served_is_refused_at_submit(
    change: dict[str, Any], code: ErrorCode, field: str, engine_of: Loader
) -> None:
    engine = engine_of("llama")
    row = RowSpec(RowKey(0, 0), 0, change.pop("generated_ids", ()))
    rows = change.pop("rows", (row,))
    prompt = change.pop("prompt_ids", [1, 2, 3])
    params = SamplingParams(**{"max_tokens": 8, **change})
    with pytest.raises(RequestError) as refused:
        engine.submit(GenerationRequest(prompt, params, rows))
    assert (refused.value.code, refused.value.field) == (code, field)
    assert engine.load().rows_waiting == 0


def test_a_closed_engine_leaves_no_thread_and_no_memory(fresh: Any) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    engine = fresh(batch_max=4)
    service = Service(engine)
    for row in range(8):
        engine.submit(request([3, 4, 5], row, max_tokens=200, ignore_eos=True))
    service.wait_for(lambda: len(service.results.steps) > 3)
    import weakref

    runner = weakref.ref(engine._runner)
    engine.close()
    engine.close()
    gc.collect()
    assert {thread.ident for thread in threading.enumerate()} <= before
    assert runner() is None
    assert engine.load().rows_running == engine.load().rows_waiting == 0
    with pytest.raises(RequestError) as refused:
        engine.submit(request([3], 99))
    assert refused.value.code is ErrorCode.UNAVAILABLE


def test_an_idle_engine_uses_no_processor_time(fresh: Any) -> None:
    service = Service(fresh())
    service.engine.submit(request([3, 4], 0, max_tokens=2))
    service.wait(0)
    thread = service.engine._thread
    assert thread is not None
    stat = Path(f"/proc/self/task/{thread.native_id}/stat")
    time.sleep(0.2)
    before = stat.read_text().split()[13:15]
    time.sleep(0.5)
    assert stat.read_text().split()[13:15] == before


def test_stops_and_their_reasons(zoo: Zoo, engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama"))
    prompt = models.prompts(1, 11, 60)[0]
    text = zoo.reference("llama").greedy(prompt, 24)
    third = text[2]
    first_at = text.index(third)
    stepper.submit(request(prompt, 0, stop_token_ids=(third,)))
    stepper.submit(request(prompt, 1, max_tokens=3))
    stepper.submit(request(prompt, 2, allowed_token_ids=(0, 9), logit_bias={0: 99.0}))
    stepper.submit(
        request(prompt, 3, logit_bias={0: 99.0}, ignore_eos=True, allowed_token_ids=(0, 9))
    )
    stepper.submit(request(prompt, 4, logit_bias={0: 999.0}, min_tokens=4))
    results = stepper.run()
    assert results.tokens[0] == text[: first_at + 1]
    assert results.finish[0].reason is FinishReason.STOP
    assert results.finish[0].stop_token_id == third
    assert results.tokens[1] == text[:3]
    assert results.finish[1].reason is FinishReason.LENGTH
    assert results.tokens[2] == [0]
    assert results.finish[2].reason is FinishReason.STOP
    assert results.tokens[3] == [0] * 24
    assert results.finish[3].reason is FinishReason.LENGTH
    assert len(results.tokens[4]) == 5
    assert results.tokens[4][-1] == 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_logprobs_are_those_of_transformers(kind: str, zoo: Zoo, engine_of: Loader) -> None:
    stepper = Stepper(engine_of(kind, batch_max=4))
    prompt = models.prompts(1, 12, 90)[0]
    stepper.submit(request(prompt, 0, logprobs=5, max_tokens=6, logit_bias={17: 1.0}))
    stepper.submit(request(prompt[:9], 1, max_tokens=6))
    results = stepper.run()
    tokens = results.tokens[0]
    expected = torch.log_softmax(zoo.reference(kind).logits(prompt + tokens[:-1]), -1)
    assert len(results.logprobs[0]) == len(tokens)
    for i, given in enumerate(results.logprobs[0]):
        at = expected[len(prompt) - 1 + i]
        assert given.logprob == pytest.approx(at[tokens[i]].item(), abs=2e-4)
        best = at.topk(5)
        assert [value for _, value in given.top] == pytest.approx(best.values.tolist(), abs=2e-4)
        assert given.top[0][0] == best.indices[0]
    assert 1 not in results.logprobs
