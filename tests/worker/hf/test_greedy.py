"""Greedy output is token-identical to transformers' ``generate``, in every batch mix."""

from __future__ import annotations

import random

import pytest
import torch
from sluice_worker.engines.hf.attention import Sharing

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader, Zoo, needs_bfloat16, needs_int8
from tests.worker.hf.driver import Stepper, request

OWN = ["llama", "llama-tied", "llama3-rope", "yarn-rope", "linear-rope", "dynamic-rope", "mistral",
       "qwen2", "qwen3"]  # fmt: skip
PACKED = ["gpt2", "gpt_neox", "phi", "olmo", "olmo2", "granite", "starcoder2", "gelu-llama"]
SOLO = ["gemma2", "bloom", "mistral-window", "qwen2-window"]
PATHS = {
    **dict.fromkeys(OWN, "native"),
    **dict.fromkeys(PACKED, "packed"),
    **dict.fromkeys(SOLO, "solo"),
}


@pytest.mark.parametrize(
    ("kind", "dtype", "path"),
    [
        *((kind, "float32", path) for kind, path in PATHS.items()),
        *((kind, "float32", "decoder") for kind in OWN),
        *((kind, "float16", PATHS[kind]) for kind in ("llama-tied", "qwen3", "gpt2", "gemma2")),
        *((kind, "float16", "decoder") for kind in ("llama-tied", "qwen3")),
        *((kind, "bfloat16", "native") for kind in ("llama-tied", "qwen3")),
        *((kind, "int8", "native") for kind in ("llama-tied", "mistral", "qwen2", "qwen3")),
    ],
)
def test_every_architecture_continues_as_transformers_does(
    kind: str, dtype: str, path: str, zoo: Zoo, engine_of: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "native":  # it keeps weights alone in bfloat16
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    engine = engine_of(
        kind, dtype=dtype, batch_max=4, kernels="none" if path == "decoder" else "fastest"
    )
    assert engine.path == path
    reference = zoo.reference(kind, dtype)
    stepper = Stepper(engine)
    prompts = models.prompts(5)
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row))
    results = stepper.run()
    for row, prompt in enumerate(prompts):
        assert results.tokens[row] == reference.greedy(prompt, 24)


@pytest.mark.parametrize(
    ("kind", "dtype", "precision"),
    [
        *(pytest.param(k, "bfloat16", 0.05, marks=needs_bfloat16) for k in ("llama", "qwen3")),
        *(
            pytest.param(k, "int8", 0.001, marks=needs_int8)
            for k in ("llama-tied", "mistral", "qwen2", "qwen3", "gpt2", "olmo2", "gemma2")
        ),
    ],
)
def test_a_token_is_the_best_or_as_good_within_the_precision(
    kind: str, dtype: str, precision: float, zoo: Zoo, engine_of: Loader
) -> None:
    """Not identical to float32, where inputs are rounded: a near tie falls either way.

    The reference has the weights that int8 has. bfloat16 rounds its sums too.
    """
    engine = engine_of(kind, dtype=dtype, batch_max=4, kernels="none")
    assert engine.path == ("decoder" if kind in OWN else PATHS[kind])
    stepper = Stepper(engine)
    prompts = models.prompts(5)
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row))
    results = stepper.run()
    reference = zoo.reference(kind, "int8" if dtype == "int8" else "float32")
    for row, prompt in enumerate(prompts):
        tokens = results.tokens[row]
        logits = reference.logits(prompt + tokens)[len(prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(tokens).unsqueeze(1)).squeeze(1)
        assert (logits.amax(1) - chosen).max() < precision * logits.abs().max()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["llama", "llama by torch", "gpt2"])
@pytest.mark.parametrize("seed", range(2))
def test_rows_that_join_late_and_leave_early_change_nothing(
    kind: str, dtype: str, seed: int, zoo: Zoo, engine_of: Loader
) -> None:
    chance = random.Random(seed)
    reference = zoo.reference(kind, dtype)
    stepper = Stepper(engine_of(kind, dtype=dtype, batch_max=5, prefill_chunk=96))
    prompts = models.prompts(10, seed, longest=100)
    aborted = set()
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row))
        for _ in range(chance.randrange(8)):
            stepper.step()
        if chance.random() < 0.3:
            victim = chance.randrange(row + 1)
            if victim not in stepper.results.finish:
                stepper.abort(victim)
                aborted.add(victim)
    results = stepper.run()
    for row, prompt in enumerate(prompts):
        expected = reference.greedy(prompt, 24)
        if row in aborted:
            assert row not in results.finish
            got = results.tokens.get(row, [])
            assert got == expected[: len(got)]
        else:
            assert results.tokens[row] == expected


@pytest.mark.parametrize("kind", ["llama", "llama by torch"])
@pytest.mark.parametrize("chunk", [1, 7, 63, 64, 65, 100, 512])
def test_the_size_of_prefill_chunks_does_not_matter(
    chunk: int, kind: str, zoo: Zoo, engine_of: Loader
) -> None:
    reference = zoo.reference(kind)
    stepper = Stepper(engine_of(kind, batch_max=3, prefill_chunk=chunk))
    prompts = models.prompts(4, seed=3, longest=80)
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row, max_tokens=10))
    results = stepper.run()
    for row, prompt in enumerate(prompts):
        assert results.tokens[row] == reference.greedy(prompt, 10)


@pytest.mark.parametrize("kind", ["llama", "llama by torch", "gpt2", "gemma2"])
def test_a_row_resumed_at_any_position_goes_on_identically(
    kind: str, zoo: Zoo, engine_of: Loader
) -> None:
    stepper = Stepper(engine_of(kind, batch_max=8, prefill_chunk=80))
    prompt = models.prompts(1, seed=5, longest=90)[0]
    whole = zoo.reference(kind).greedy(prompt, 12)
    for position in range(len(whole)):
        stepper.submit(request(prompt, position, generated=whole[:position], max_tokens=12))
    results = stepper.run()
    for position in range(len(whole)):
        assert results.tokens[position] == whole[position:]


@pytest.mark.parametrize("kind", ["llama", "llama by torch", "gpt2"])
def test_preemption_under_a_tiny_budget_only_makes_rows_wait(
    kind: str, zoo: Zoo, engine_of: Loader
) -> None:
    roomy = engine_of(kind, batch_max=8)
    assert roomy._scheduler is not None
    block = roomy._scheduler._budget.block_tokens
    shape_bytes = roomy._runner.cache.shape.block_bytes  # type: ignore[union-attr]
    engine = engine_of(kind, batch_max=8, kv_cache_bytes=shape_bytes * (200 // block))
    stepper = Stepper(engine)
    reference = zoo.reference(kind)
    prompts = models.prompts(6, seed=2, longest=60)
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row, max_tokens=60))
    before = stepper.scheduler.preemptions
    results = stepper.run()
    assert stepper.scheduler.preemptions > before
    for row, prompt in enumerate(prompts):
        assert results.tokens[row] == reference.greedy(prompt, 60)
        assert row in results.starts


def test_rows_of_one_request_share_the_prompts_prefill(zoo: Zoo, engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=8))
    prompt = models.prompts(1, seed=8, longest=300)[0] * 2
    assert len(prompt) > 128
    stepper.submit(request(prompt, 0, rows=4))
    results = stepper.run()
    expected = zoo.reference("llama").greedy(prompt, 24)
    assert all(results.tokens[row] == expected for row in range(4))
    shared = (len(prompt) - 1) // 64 * 64
    assert [results.starts[row].cached_tokens for row in range(4)] == [0, shared, shared, shared]
    prefilled = sum(step.prompt_tokens for step in results.steps)
    assert prefilled == len(prompt) + 3 * (len(prompt) - shared)


@pytest.mark.parametrize("sharing", [Sharing(False, False), Sharing(True, False)])
def test_rows_that_may_not_share_a_call_of_attention_do_not(
    sharing: Sharing, zoo: Zoo, engine_of: Loader
) -> None:
    """As on a machine where sharing would change a row's bits."""
    stepper = Stepper(engine_of("llama by torch", batch_max=4, prefill_chunk=48))
    stepper.runner.attention.sharing = sharing  # type: ignore[attr-defined]
    prompts = models.prompts(5, 13, 90)
    for row, prompt in enumerate(prompts):
        done = zoo.reference("llama").greedy(prompt, 24)[: 3 * row]
        stepper.submit(request(prompt, row, generated=done))
    results = stepper.run()
    for row, prompt in enumerate(prompts):
        assert results.tokens[row] == zoo.reference("llama").greedy(prompt, 24)[3 * row :]
