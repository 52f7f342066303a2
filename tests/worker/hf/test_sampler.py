"""The sampler against a slow, straightforward one, and its draws against the odds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import sluice_kernels
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_worker.engines.base import RequestError, SamplingParams
from sluice_worker.engines.hf.draws import uniform
from sluice_worker.engines.hf.native_draws import NativeDraws
from sluice_worker.engines.hf.penalties import SeenTokens
from sluice_worker.engines.hf.row_sampler import COLDEST, RowSampler
from sluice_worker.engines.hf.sampler import Choice, PoisonError
from sluice_worker.engines.hf.sampler import sample as sample_with
from sluice_worker.engines.hf.torch_draws import draw_by_torch

from tests.worker.hf.conftest import skip_without_kernels

EOS = (3,)

Sample = Callable[[torch.Tensor, Sequence[RowSampler]], list[Choice]]


@pytest.fixture(scope="module", params=[*sluice_kernels.INSTRUCTION_SETS, "torch"])
def sample(request: pytest.FixtureRequest) -> Iterator[Sample]:
    """The sampler with each way of drawing that this machine has."""
    if request.param == "torch":
        yield lambda logits, rows: sample_with(logits, rows, draw_by_torch)
        return
    skip_without_kernels(request.param)
    pool = sluice_kernels.Pool(request.param, 2)
    yield lambda logits, rows: sample_with(logits, rows, NativeDraws(pool, logits.shape[1]))
    pool.close()


def row(
    prompt: list[int] | None = None,
    generated: list[int] | None = None,
    seed: int = 0,
    **params: Any,
) -> RowSampler:
    values = {"max_tokens": 100, **params}
    return RowSampler(SamplingParams(**values), seed, EOS, prompt or [0], generated or [])


def reference_logits(
    logits: list[float], p: SamplingParams, prompt: list[int], generated: list[int]
) -> list[float]:
    """All that comes before temperature, one token at a time."""
    x = list(logits)
    for token in range(len(x)):
        if p.allowed_token_ids and token not in p.allowed_token_ids:
            x[token] = -math.inf
        if any((*generated, token)[-len(word) :] == word for word in p.bad_words):
            x[token] = -math.inf
        x[token] += p.logit_bias.get(token, 0.0)
        if len(generated) < p.min_tokens and token in (*p.stop_token_ids, *EOS):
            x[token] = -math.inf
        if token in prompt or token in generated:
            r = p.repetition_penalty
            x[token] = x[token] / r if x[token] > 0 else x[token] * r
        count = generated.count(token)
        x[token] -= p.frequency_penalty * count + p.presence_penalty * (count > 0)
    return x


def reference_kept(x: list[float], p: SamplingParams) -> list[tuple[int, float]]:
    """Tokens that may be drawn with their probabilities, most likely first."""
    scaled = [value / p.temperature for value in x]
    order = sorted(range(len(x)), key=lambda token: (-scaled[token], token))
    if p.top_k:
        order = order[: p.top_k]
    weights = [math.exp(scaled[token] - scaled[order[0]]) for token in order]
    total = sum(weights)
    kept, mass = [], 0.0
    for token, weight in zip(order, weights, strict=True):
        if kept and (mass >= p.top_p * total or weight < p.min_p * weights[0]):
            break
        kept.append((token, weight))
        mass += weight
    total = sum(weight for _, weight in kept)
    return [(token, weight / total) for token, weight in kept]


PARAMS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1e-7, 0.3, 1.0, 2.0]),
        "top_k": st.sampled_from([0, 0, 1, 3, 40]),
        "top_p": st.sampled_from([1.0, 1.0, 0.1, 0.5, 0.93]),
        "min_p": st.sampled_from([0.0, 0.0, 0.07, 0.6]),
        "presence_penalty": st.sampled_from([0.0, 0.0, 1.5, -2.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.0, 0.7]),
        "repetition_penalty": st.sampled_from([1.0, 1.0, 1.3, 0.5]),
        "min_tokens": st.sampled_from([0, 0, 3]),
        "stop_token_ids": st.sampled_from([(), (5, 7)]),
        "logit_bias": st.dictionaries(st.integers(0, 39), st.floats(-100, 100), max_size=3),
        "allowed_token_ids": st.sampled_from([(), (), (1, 2, 3, 20, 21), (3, 30)]),
        "bad_words": st.sampled_from([(), (), ((2,), (3,)), ((4, 20), (4, 30), (8,), (3, 4, 21))]),
    }
)
TOKENS = st.lists(st.integers(0, 39), max_size=6)
CASE = st.tuples(PARAMS, TOKENS, TOKENS, st.integers(0, 2**64 - 1))


@settings(deadline=None, max_examples=150, derandomize=True)
@given(st.lists(CASE, min_size=1, max_size=5), st.integers(0, 10**6))
def test_every_row_of_a_mixed_batch_is_sampled_as_by_the_slow_reference(
    sample: Sample, cases: list[tuple[dict[str, Any], list[int], list[int], int]], seed: int
) -> None:
    logits = torch.randn(len(cases), 40, generator=torch.Generator().manual_seed(seed)) * 3
    rows = [row(prompt or [0], done, seed, **params) for params, prompt, done, seed in cases]
    choices = sample(logits.clone(), rows)
    for i, (choice, case) in enumerate(zip(choices, cases, strict=True)):
        params, prompt, done, _ = case
        alone = sample(logits[i : i + 1].clone(), [row(prompt or [0], done, case[3], **params)])
        assert choice.token == alone[0].token
        p = rows[i].params
        x = reference_logits(logits[i].tolist(), p, prompt or [0], done)
        if max(x) == -math.inf:
            continue  # all that is allowed is barred: any of the allowed
        best = max(x)
        if p.temperature < COLDEST:
            assert x[choice.token] >= best - 1e-4
        else:
            kept = dict(reference_kept(x, p))
            near = reference_kept(x, _loosened(p))
            assert choice.token in kept or choice.token in dict(near)


def test_a_row_that_has_nothing_left_but_bad_words_fails_alone(sample: Sample) -> None:
    logits = torch.randn(2, 40, generator=torch.Generator().manual_seed(1))
    barred = row(allowed_token_ids=(7, 8), bad_words=((7,), (8,)))
    failed, other = sample(logits, [barred, row(temperature=0.0)])
    assert isinstance(failed.error, RequestError)
    assert failed.error.field == "bad_words"
    assert other.token == int(logits[1].argmax())


def test_penalties_count_every_token_however_many_there_are() -> None:
    params = SamplingParams(max_tokens=9, presence_penalty=0.25, frequency_penalty=0.5)
    seen = SeenTokens(params, [], [])
    for token in (*range(150), *range(70)):
        seen.add(token)
    logits = torch.zeros(200)
    seen.apply(logits)
    assert logits.tolist() == [-1.25] * 70 + [-0.75] * 80 + [0.0] * 50


@pytest.mark.parametrize("penalty", [1e-45, 1e-38, 1e-34])
@pytest.mark.parametrize("temperature", [0.0, 1.1e-5, 1.0])
def test_a_tiny_repetition_penalty_repeats_and_breaks_nothing(
    sample: Sample, penalty: float, temperature: float
) -> None:
    logits = torch.zeros(1, 40)
    logits[0, 7], logits[0, 9] = 20.0, 30.0
    said = row([7], repetition_penalty=penalty, temperature=temperature)
    assert sample(logits, [said])[0].token == 7


def _loosened(p: SamplingParams) -> SamplingParams:
    """Bounds moved by what float32 may round."""
    from dataclasses import replace

    return replace(p, top_p=min(1.0, p.top_p + 1e-5), min_p=p.min_p * (1 - 1e-5))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.2},
        {"top_k": 20, "top_p": 0.9, "min_p": 0.01, "temperature": 1.4},
    ],
)
def test_draws_have_the_frequencies_of_the_reference(
    sample: Sample, params: dict[str, Any]
) -> None:
    logits = torch.randn(60, generator=torch.Generator().manual_seed(1)) * 2
    count = 8000
    rows = [row(seed=seed, **params) for seed in range(count)]
    drawn = [choice.token for choice in sample(logits.repeat(count, 1), rows)]
    kept = reference_kept(logits.tolist(), rows[0].params)
    seen = np.bincount(drawn, minlength=60)
    assert {token for token in range(60) if seen[token]} <= {token for token, _ in kept}
    expected = np.array([probability * count for _, probability in kept])
    observed = np.array([seen[token] for token, _ in kept])
    large = expected >= 5
    chi = float((((observed - expected) ** 2) / np.maximum(expected, 1e-9))[large].sum())
    freedom = max(int(large.sum()) - 1, 1)
    assert chi < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("params", [{"top_p": 0.97}, {"top_k": 3000}, {"min_p": 0.001}, {}])
def test_wide_vocabularies_are_cut_exactly(sample: Sample, params: dict[str, Any]) -> None:
    """Flat logits, so that no short prefix of the ranking holds the mass asked for."""
    vocab = 20_000
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(2)).double().float()
    rows = [row(seed=seed, **params) for seed in range(300)]
    kept = [token for token, _ in reference_kept(logits.tolist(), _loosened(rows[0].params))]
    drawn = {choice.token for choice in sample(logits.repeat(300, 1), rows)}
    assert drawn <= set(kept)
    assert len(drawn) > 250
    deepest = max(kept.index(token) for token in drawn)
    assert deepest > 0.8 * len(kept)


def test_equal_logits_rank_by_id_at_every_cut(sample: Sample) -> None:
    logits = torch.zeros(1, 5000)
    for k in (1, 2, 127, 128, 129, 3000):
        drawn = {sample(logits, [row(seed=s, top_k=k)])[0].token for s in range(12)}
        assert max(drawn) < k
    assert sample(logits, [row(temperature=0.0)])[0].token == 0


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    assert uniform(1, 2) == uniform(1, 2)
    assert len({uniform(seed, position) for seed in range(50) for position in range(50)}) == 2500
    values = np.array([uniform(seed, p) for seed in (0, 1, 2**64 - 1) for p in range(4000)])
    assert (values >= 0).all()
    assert (values < 1).all()
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6, 1.1e-5, 1e-3])
def test_tiny_temperatures_are_greedy_and_never_overflow(
    sample: Sample, temperature: float
) -> None:
    logits = torch.randn(1, 300, generator=torch.Generator().manual_seed(3)) * 100
    best = int(logits.argmax())
    for extra in ({}, {"top_p": 0.5}, {"top_k": 4}, {"min_p": 0.1}):
        choice = sample(logits, [row(temperature=temperature, seed=9, **extra)])[0]
        assert choice.error is None
        assert choice.token == best


def test_logprobs_are_of_the_raw_logits(sample: Sample) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(4))
    rows = [
        row(temperature=0.0, logprobs=3, logit_bias={7: 100.0}),
        row(temperature=0.0),
        row(temperature=0.5, logprobs=0, repetition_penalty=1.5, prompt=[1, 2]),
    ]
    choices = sample(logits, rows)
    expected = torch.log_softmax(logits, -1)
    assert choices[0].token == 7
    assert choices[1].logprobs is None
    for i in (0, 2):
        logprobs = choices[i].logprobs
        assert logprobs is not None
        assert logprobs.logprob == pytest.approx(expected[i, choices[i].token].item(), abs=1e-6)
    first = choices[0].logprobs
    assert first is not None
    assert [token for token, _ in first.top] == expected[0].topk(3).indices.tolist()
    assert choices[2].logprobs is not None
    assert choices[2].logprobs.top == ()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_row_of_poison_fails_alone(sample: Sample, poison: float) -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(5))
    rows = [row(seed=i, top_p=0.9) for i in range(4)]
    clean = [choice.token for choice in sample(logits, rows)]
    logits[2, 11] = poison
    choices = sample(logits, rows)
    assert isinstance(choices[2].error, PoisonError)
    assert [choices[i].token for i in (0, 1, 3)] == [clean[i] for i in (0, 1, 3)]


def test_a_row_whose_sampling_raises_fails_alone(sample: Sample) -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(6))
    rows = [row(seed=i, frequency_penalty=1.0, generated=[1, 2]) for i in range(3)]
    clean = [choice.token for choice in sample(logits, rows)]
    rows[1]._seen._ids = None  # type: ignore[union-attr, assignment]
    choices = sample(logits, rows)
    assert choices[1].error is not None
    assert [choices[0].token, choices[2].token] == [clean[0], clean[2]]


def test_min_tokens_bars_every_end_and_then_allows_it(sample: Sample) -> None:
    logits = torch.zeros(1, 10)
    logits[0, 3], logits[0, 5] = 9.0, 8.0
    params = {"temperature": 0.0, "min_tokens": 2, "stop_token_ids": (5,)}
    assert sample(logits, [row(**params)])[0].token == 0
    assert sample(logits, [row(generated=[1], **params)])[0].token == 0
    assert sample(logits, [row(generated=[1, 1], **params)])[0].token == 3
