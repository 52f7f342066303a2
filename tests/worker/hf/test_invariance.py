"""Batch invariance: a row's numbers do not depend on the rows beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from sluice_worker.engines.base import TokenLogprobs
from sluice_worker.engines.hf.batch import Span
from sluice_worker.engines.hf.invariance import (
    NOT_INVARIANT,
    RowCounts,
    agreeing_counts,
    common_counts,
    splits_evenly,
)

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader, Zoo, needs_bfloat16, needs_int8
from tests.worker.hf.driver import Results, Stepper, request

MODES = [("llama", "float32"), ("llama", "float16"), ("llama-group4", "float16"),
         ("qwen3", "float16"), ("llama", "int8"),
         ("llama by torch", "float32"), ("llama by torch", "float16"),
         ("llama-group4 by torch", "float16"), ("qwen3 by torch", "float16"),
         ("gpt2", "float32"), ("gpt2", "float16"),
         pytest.param("llama by torch", "bfloat16", marks=needs_bfloat16),
         pytest.param("llama by torch", "int8", marks=needs_int8),
         pytest.param("gpt2", "int8", marks=needs_int8)]  # fmt: skip


@pytest.mark.parametrize(("kind", "dtype"), MODES)
def test_a_decode_steps_logits_are_bitwise_the_same_alone_and_in_a_batch(
    kind: str, dtype: str, engine_of: Loader
) -> None:
    runner = Stepper(engine_of(kind, dtype=dtype, batch_max=33, num_threads=2)).runner
    if runner.name != "native":
        assert runner.invariant  # type: ignore[attr-defined]
        assert runner.attention.sharing.calls  # type: ignore[attr-defined]
    lengths = [1 + (37 * slot) % 480 for slot in range(33)]
    tokens = [models.prompts(1, slot, 1)[0][0] for slot in range(33)]
    with torch.inference_mode():
        _fill(runner, lengths)
        decode = [
            Span(slot, lengths[slot], [tokens[slot]], decode=True, wants_logits=True)
            for slot in range(33)
        ]
        alone = torch.cat([runner.forward([span]) for span in decode])
        for mix in _mixes(33):
            together = runner.forward([decode[slot] for slot in mix])
            assert torch.equal(together, alone[torch.tensor(mix)])
        for slot in range(33):
            runner.release(slot)


@pytest.mark.parametrize("kind", ["llama-wide", "llama-wide by torch", "gpt2-wide"])
@pytest.mark.parametrize("threads", [3, 5, 7])
def test_rows_beside_a_prompt_are_bitwise_the_same_with_any_number_of_threads(
    threads: int, kind: str, engine_of: Loader
) -> None:
    """Activations are cut among threads, and what is left of a range takes other code."""
    runner = Stepper(engine_of(kind, batch_max=34, num_threads=threads)).runner
    assert runner.name == "native" or runner.invariant  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,)) as engine:
        alone, beside = engine.submit(_beside_a_prompt, runner).result()
    assert {rows: torch.equal(logits, alone) for rows, logits in beside.items()} == dict.fromkeys(
        beside, True
    )


def _beside_a_prompt(runner):  # type: ignore[no-untyped-def]
    """Logits of 33 rows, each by itself, then beside a prompt of so many tokens."""
    prompt = models.prompts(1, 3, 300)[0] * 3
    with torch.inference_mode():
        _fill(runner, [9] * 33)
        rows = [Span(slot, 9, [slot], decode=True, wants_logits=True) for slot in range(33)]
        alone = torch.cat([runner.forward([span]) for span in rows])
        beside = {}
        for count in (98, 103, 120, 222):
            long = Span(33, 0, prompt[:count], decode=False, wants_logits=False)
            beside[count] = runner.forward([*rows, long])
        for slot in range(34):
            runner.release(slot)
    return alone, beside


@pytest.mark.parametrize(("kind", "dtype"), MODES)
def test_keys_are_bitwise_the_same_however_a_row_came_to_them(
    kind: str, dtype: str, engine_of: Loader
) -> None:
    """Prefilled in one step or several, beside others or not, decoded or replayed."""
    runner = Stepper(engine_of(kind, dtype=dtype, batch_max=33, num_threads=2)).runner
    prompt = models.prompts(1, 3, 300)[0][:150] * 2
    prompt, tail = prompt[:140], prompt[:20]
    tiles = [Span(0, at, prompt[at : at + 64], False, False) for at in range(0, 140, 64)]
    other = [Span(1, 0, prompt[:50], False, False), Span(2, 0, [5], True, True)]
    with torch.inference_mode():
        for tile in tiles:
            runner.forward([tile])
        for i, token in enumerate(tail):
            expected = runner.forward([Span(0, 140 + i, [token], True, True)])
        for slot in range(3):
            runner.release(slot)
        runner.forward([other[0], *tiles])
        runner.forward([Span(0, 140, tail[:7], True, False), *other])
        got = runner.forward([other[1], Span(0, 147, tail[7:], True, True), other[0]])
        for slot in range(3):
            runner.release(slot)
    assert torch.equal(got[1], expected[0])


@pytest.mark.parametrize("kind", ["llama", "llama by torch", "gpt2", "gemma2"])
@pytest.mark.parametrize("seed", range(3))
def test_seeded_text_is_the_same_alone_in_any_batch_and_resumed(
    kind: str, seed: int, engine_of: Loader
) -> None:
    chance = random.Random(seed)
    engine = engine_of(kind, batch_max=6, prefill_chunk=70)
    prompts = models.prompts(8, seed + 20, longest=90)
    params = [
        {
            "temperature": chance.choice([0.0, 0.8, 1.3]),
            "top_p": chance.choice([1.0, 0.9]),
            "top_k": chance.choice([0, 20]),
            "frequency_penalty": chance.choice([0.0, 0.5]),
            "seed": chance.randrange(2**63),
            "max_tokens": 16,
            "logprobs": 0,
        }
        for _ in prompts
    ]
    alone: dict[int, list[int]] = {}
    numbers: dict[int, list[TokenLogprobs]] = {}
    for row, prompt in enumerate(prompts):
        stepper = Stepper(engine)
        stepper.submit(request(prompt, row, **params[row]))
        results = stepper.run()
        alone[row], numbers[row] = results.tokens[row], results.logprobs[row]
    mixed = _run_mixed(engine_of, kind, prompts, params, alone, chance)
    for row in range(len(prompts)):
        assert alone[row] == mixed.tokens[row]
        resumed = mixed.tokens[100 + row]
        assert resumed == alone[row][len(alone[row]) - len(resumed) :]
        # Not nearly but exactly, or a tie may fall the other way some day.
        assert mixed.logprobs[row] == numbers[row]
        assert mixed.logprobs[100 + row] == numbers[row][len(alone[row]) - len(resumed) :]


def _run_mixed(engine_of, kind, prompts, params, alone, chance) -> Results:  # type: ignore[no-untyped-def]
    """All rows and, as rows 100 and up, the same ones resumed somewhere, in disorder."""
    stepper = Stepper(engine_of(kind, batch_max=6, prefill_chunk=70))
    jobs = [request(prompt, row, **params[row]) for row, prompt in enumerate(prompts)]
    for row, prompt in enumerate(prompts):
        done = alone[row][: chance.randrange(len(alone[row]))]
        jobs.append(request(prompt, 100 + row, generated=done, **params[row]))
    chance.shuffle(jobs)
    for job in jobs:
        stepper.submit(job)
        for _ in range(chance.randrange(4)):
            stepper.step()
    return stepper.run()


def test_agreeing_counts_finds_the_counts_of_a_kernel_with_other_remainders() -> None:
    def kernel(x: torch.Tensor) -> torch.Tensor:
        odd = x.shape[0] in (1, 2, 7, 31)
        return x * 3.0000002 if odd else x * 3

    counts = common_counts([agreeing_counts(kernel, 8)])
    assert counts.invariant
    assert [counts.padded(rows) for rows in (1, 2, 3, 7, 31, 64, 65, 66, 130)] == [
        3, 3, 3, 8, 32, 64, 67, 67, 131]  # fmt: skip


@pytest.mark.parametrize("kind", ["llama by torch", "gpt2"])
def test_rows_are_padded_to_good_counts_and_cut_into_blocks(
    kind: str, zoo: Zoo, engine_of: Loader
) -> None:
    engine = engine_of(kind, batch_max=7)
    runner = engine._runner
    counts = RowCounts(good=(3, 5, 8, 16, 24), blocks=(24,))
    asked: list[int] = []

    def note(rows: int) -> int:
        asked.append(counts.padded(rows))
        return asked[-1]

    kept, runner.counts = runner.counts, _Noting(note)  # type: ignore[union-attr]
    stepper = Stepper(engine)
    prompts = models.prompts(9, 50, 100)
    for row, prompt in enumerate(prompts):
        stepper.submit(request(prompt, row))
        stepper.step()
    results = stepper.run()
    runner.counts = kept  # type: ignore[union-attr]
    assert {rows % 24 for rows in asked} <= {0, 3, 5, 8, 16}
    assert max(asked) > 24, "whole steps are padded, not only logits"
    for row, prompt in enumerate(prompts):
        assert results.tokens[row] == zoo.reference(kind).greedy(prompt, 24)


class _Noting:
    def __init__(self, padded: Callable[[int], int]) -> None:
        self.padded = padded


def test_large_blocks_are_those_that_agree() -> None:
    def kernel(x: torch.Tensor) -> torch.Tensor:
        return x * 3.0000002 if x.shape[0] in (3, 128) else x * 3

    counts = common_counts([agreeing_counts(kernel, 8)])
    assert counts.blocks == (256, 64)
    assert counts.cut(600) == [256, 256, 64, 24]
    assert counts.cut(320) == [256, 64]
    assert [counts.padded(rows) for rows in (320, 323, 600)] == [320, 324, 600]


def test_a_kernel_without_agreeing_counts_is_not_padded_for() -> None:
    counts = common_counts([agreeing_counts(lambda x: x + x.shape[0], 8)])
    assert counts == NOT_INVARIANT
    assert counts.padded(37) == 37


def test_activations_are_only_split_where_vectors_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert splits_evenly(1, 1536)
    assert splits_evenly(64, 1536)  # three ranges of 32 Ki
    assert not splits_evenly(65, 1530)


def _fill(runner, lengths: list[int]) -> None:  # type: ignore[no-untyped-def]
    for slot, length in enumerate(lengths):
        prompt = models.prompts(1, slot, 400)[0]
        prompt = (prompt * length)[:length]
        runner.forward(
            [Span(slot, at, prompt[at : at + 64], False, False) for at in range(0, length, 64)]
        )


def _mixes(slots: int) -> list[list[int]]:
    chance = random.Random(0)
    mixes = [list(range(slots)), list(range(1, slots)), [0, 2, 4], [5, 6, 7, 30]]
    mixes += [sorted(chance.sample(range(slots), count)) for count in range(1, slots)]
    return mixes
