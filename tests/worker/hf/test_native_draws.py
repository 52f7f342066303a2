"""Tokens drawn by the compiled kernels: the very ones that seed and parameters ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sluice_kernels
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sluice_worker.engines.base import SamplingParams
from sluice_worker.engines.hf.draws import uniform
from sluice_worker.engines.hf.native_draws import NativeDraws
from sluice_worker.engines.hf.row_sampler import RowSampler
from sluice_worker.engines.hf.sampler import PoisonError, sample

WIDTHS = (1, 15, 16, 17, 255, 256, 257, 5003)


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, sluice_kernels.Pool]]:
    """A pool of each instruction set that the machine has."""
    found = {}
    for name in sluice_kernels.INSTRUCTION_SETS:
        try:
            found[name] = sluice_kernels.Pool(name, 3)
        except LookupError:
            continue
    if not found:
        pytest.skip("this machine has no kernels")
    yield found
    for pool in found.values():
        pool.close()


def sampler_of(seed: int, **params: Any) -> RowSampler:
    return RowSampler(SamplingParams(max_tokens=9, **params), seed, (), [0], [])


def distances(logits: torch.Tensor, row: RowSampler) -> np.ndarray[Any, Any]:
    """How far each token's share of the draws is from the draw; infinite for those not kept.

    Computed by ranking everything, in float64 where the kernels have float32.
    """
    p = row.params
    scaled = (logits / torch.tensor(p.temperature)).numpy()
    order = np.lexsort((np.arange(len(scaled)), -scaled))
    free = not p.top_k and p.top_p >= 1 and not p.min_p
    kept = np.arange(len(scaled)) if free else order[: p.top_k or len(scaled)]
    weights = np.exp((scaled[kept] - scaled.max()).astype(np.float64))
    ends = weights.cumsum()
    keep = np.full(len(kept), True)
    if p.top_p < 1:
        keep &= ends - weights < p.top_p * ends[-1]
    if p.min_p:
        keep &= scaled[kept] >= scaled.max() + np.float32(math.log(p.min_p))
    keep[0] |= not free
    kept, ends, weights = kept[keep], ends[keep], weights[keep]
    target = uniform(row.seed, row.position)
    apart = np.maximum(target - ends / ends[-1], (ends - weights) / ends[-1] - target)
    found = np.full(len(scaled), np.inf)
    found[kept] = np.maximum(apart, 0)
    return found


BOUNDS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.05, 0.7, 1.0, 2.0]),
        "top_k": st.sampled_from([0, 0, 1, 2, 40, 700, 6000]),
        "top_p": st.sampled_from([1.0, 1.0, 1e-9, 0.3, 0.9, 0.9999]),
        "min_p": st.sampled_from([0.0, 0.0, 1e-6, 0.05, 1.0]),
    }
)


ONLY_MIN_P = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 1e-6}


@settings(deadline=None, max_examples=120, derandomize=True)
@example([ONLY_MIN_P], 5003, 0.0, 8.5, 1)
@given(
    st.lists(BOUNDS, min_size=1, max_size=4),
    st.sampled_from(WIDTHS),
    st.sampled_from([0.0, 0.5, 3.0, 5.0, 9.0]),
    st.sampled_from([0.0, 8.5, 33.0]),
    st.integers(0, 10**6),
)
def test_a_draw_falls_on_its_token_and_on_the_same_with_all_instructions(
    pools: dict[str, sluice_kernels.Pool],
    bounds: list[dict[str, Any]],
    width: int,
    spread: float,
    lead: float,
    seed: int,
) -> None:
    """With a lead, one token is far from the others, which have as much of the mass together."""
    chance = torch.Generator().manual_seed(seed)
    bounds = bounds * 15
    logits = torch.randn(len(bounds), width, generator=chance) * spread
    logits[:, 0] += lead
    logits[:, 1::7] = -math.inf  # as where something is barred
    logits = (logits * 8).round() / 8 if seed % 3 == 0 else logits  # equal ones
    before = logits.clone()
    rows = [sampler_of(seed + i, **each) for i, each in enumerate(bounds)]
    drawn = [NativeDraws(pool, width)(list(logits), rows) for pool in pools.values()]
    assert all(tokens == drawn[0] for tokens in drawn)
    assert torch.equal(logits, before)
    for own, row, token in zip(logits, rows, drawn[0], strict=True):
        assert own[token] > -math.inf
        assert distances(own, row)[token] < 1e-5


def test_top_p_is_of_the_mass_of_top_k_when_just_so_many_tokens_are_near(
    pools: dict[str, sluice_kernels.Pool],
) -> None:
    """Three are, and the 5000 far ones have a quarter of all mass: it is no part of theirs."""
    logits = torch.full((5003,), -8.5)
    logits[:3] = 0.0
    rows = [sampler_of(seed, top_k=3, top_p=0.6) for seed in range(60)]
    for pool in pools.values():
        assert set(NativeDraws(pool, 5003)([logits] * 60, rows)) == {0, 1}


def test_what_a_row_draws_does_not_depend_on_the_rows_beside_it(
    pools: dict[str, sluice_kernels.Pool],
) -> None:
    logits = torch.randn(40, 3000, generator=torch.Generator().manual_seed(1)) * 2
    rows = [sampler_of(i, top_p=0.95, temperature=0.5 + i / 20) for i in range(40)]
    for pool in pools.values():
        draw = NativeDraws(pool, 3000)
        together = draw(list(logits), rows)
        alone = [draw([own], [row])[0] for own, row in zip(logits, rows, strict=True)]
        assert together == alone


def test_logits_of_another_width_are_refused(pools: dict[str, sluice_kernels.Pool]) -> None:
    """Only their address is given on."""
    for pool in pools.values():
        draw = NativeDraws(pool, 100)
        doubles, every_second = torch.zeros(100, dtype=torch.float64), torch.zeros(200)[::2]
        for wrong in (torch.zeros(99), doubles, every_second):
            with pytest.raises(ValueError, match="not 100 floats"):
                draw([wrong], [sampler_of(1)])


def test_a_top_k_beyond_what_c_can_count_bounds_nothing(
    pools: dict[str, sluice_kernels.Pool],
) -> None:
    logits = list(torch.randn(20, 300, generator=torch.Generator().manual_seed(1)))
    for pool in pools.values():
        draw = NativeDraws(pool, 300)
        vast = [sampler_of(i, top_k=2**31 + 5) for i in range(20)]
        all_of_them = [sampler_of(i, top_k=300) for i in range(20)]
        assert draw(logits, vast) == draw(logits, all_of_them)


@pytest.mark.parametrize("bounds", [{}, {"top_p": 0.9}, {"top_k": 3}])
def test_no_number_among_the_logits_gives_no_token(
    pools: dict[str, sluice_kernels.Pool], bounds: dict[str, float]
) -> None:
    logits = torch.zeros(100)
    logits[40] = math.nan
    for pool in pools.values():
        with pytest.raises(PoisonError):
            NativeDraws(pool, 100)([logits], [sampler_of(1, **bounds)])


@pytest.mark.parametrize("bounds", [{}, {"top_p": 0.9}])
def test_a_row_whose_scaled_logits_overflow_fails_alone(
    pools: dict[str, sluice_kernels.Pool], bounds: dict[str, float]
) -> None:
    logits = torch.randn(3, 100, generator=torch.Generator().manual_seed(1))
    rows = [sampler_of(i, temperature=0.01, **bounds) for i in range(3)]
    for pool in pools.values():
        draw = NativeDraws(pool, 100)
        sound = [choice.token for choice in sample(logits, rows, draw)]
        broken = logits.clone()
        broken[1, 50] = 3e38
        choices = sample(broken, rows, draw)
        assert isinstance(choices[1].error, PoisonError)
        assert [choices[0].token, choices[2].token] == [sound[0], sound[2]]
