"""The prefix cache: less is computed, and nothing comes out otherwise."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_worker.engines.base import FinishReason
from sluice_worker.engines.hf import HfOptions, load
from sluice_worker.engines.hf.kv_cache import KvCache, KvShape
from sluice_worker.engines.hf.prefix_cache import PrefixCache, PrefixIndex

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader, Zoo
from tests.worker.hf.driver import Service, Stepper, request

TILE = 64


def text(seed: int, length: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(2, models.VOCAB) for _ in range(length)]


def blocks(engine_of: Loader, kind: str, tokens: int) -> int:
    """Bytes of keys and values of so many tokens."""
    shape = engine_of(kind)._runner.cache.shape  # type: ignore[union-attr]
    return int(shape.block_bytes * -(-tokens // shape.block_tokens))


TOKENS = st.lists(st.integers(0, 1), max_size=14)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 4), st.none() | TOKENS), max_size=25), TOKENS)
def test_the_index_finds_what_a_search_through_all_slots_finds(
    changes: list[tuple[int, list[int] | None]], wanted: list[int]
) -> None:
    tile = 2
    index, kept = PrefixIndex(tile), dict[int, list[int]]()
    for slot, tokens in changes:
        if tokens is None:
            index.remove(slot)
            kept.pop(slot, None)
        else:
            index.insert(slot, tokens)
            kept[slot] = tokens[: len(tokens) // tile * tile]
        kept = {slot: tokens for slot, tokens in kept.items() if tokens}
        assert len(index) == len(kept)
    for slot, tokens in kept.items():
        assert index.held(slot) == len(tokens)
        others = {s: t for s, t in kept.items() if s != slot}
        assert set(index.covering(slot)) == {
            s for s, t in others.items() if t[: len(tokens)] == tokens
        }
        assert set(index.covered(slot)) == {s for s, t in others.items() if tokens[: len(t)] == t}
    for most in range(len(wanted) + 1):
        slots, count = index.longest(wanted, most)
        common = {slot: _common(tokens, wanted[:most], tile) for slot, tokens in kept.items()}
        assert count == max(common.values(), default=0)
        if count:
            assert set(slots) == {slot for slot, length in common.items() if length == count}
    for slot in kept:
        index.remove(slot)
    assert not index._root.children


def _common(a: list[int], b: list[int], tile: int) -> int:
    length = 0
    while length + tile <= min(len(a), len(b)) and a[: length + tile] == b[: length + tile]:
        length += tile
    return length


def test_what_was_left_the_longest_goes_first() -> None:
    cache = PrefixCache(2, enabled=True)
    for slot in range(4):
        cache.publish(slot, [slot] * 4)
        assert cache.rest(slot, 1) == []
    assert cache.match([0, 0, 9], 2) == (0, 2)
    assert cache.oldest(None) == 1
    assert cache.forget(1) == 1
    assert cache.oldest(2) == 3
    assert cache.blocks == 3


MODES = [("llama", "float32"), ("llama", "float16"), ("qwen3", "float16"), ("gpt2", "float32")]


@pytest.mark.parametrize(("kind", "dtype"), MODES)
@pytest.mark.parametrize("seed", range(3))
def test_random_conversations_come_out_as_without_a_cache(
    kind: str, dtype: str, seed: int, engine_of: Loader
) -> None:
    """Shared system prompts, several turns, n, resumption, aborts, evictions, preemptions."""
    budget = blocks(engine_of, kind, 1100 + 200 * seed)
    given = {"dtype": dtype, "batch_max": 5, "prefill_chunk": 128}
    cached = Stepper(engine_of(kind, **given, kv_cache_bytes=budget))
    plain = Stepper(engine_of(kind, **given, prefix_caching=False))
    chance = random.Random(seed)
    hits = cached.scheduler.prefixes.hits
    systems = [text(90 + i, length) for i, length in enumerate((130, 192, 40))]
    talks = [list(chance.choice(systems)) for _ in range(8)]
    row = 0
    for _ in range(5):
        asked: dict[int, tuple[int, dict[str, Any]]] = {}
        for number, talk in enumerate(talks):
            talk += text(chance.randrange(10**6), chance.randrange(1, 40))
            more: dict[str, Any] = {"seed": chance.randrange(99), "logprobs": 0, "max_tokens": 12,
                                    "ignore_eos": True}  # fmt: skip
            if chance.random() < 0.5:
                more["temperature"] = 1.0
            if chance.random() < 0.2:
                more["generated"] = text(number, 5)
            rows = chance.choice([1, 1, 1, 3])
            for stepper in (cached, plain):
                stepper.submit(request(list(talk), row, rows=rows, **more))
            asked[row] = (number, more)
            row += rows
            for _ in range(chance.randrange(4)):
                cached.step()
            if chance.random() < 0.2:
                cached.abort(chance.randrange(row))
        results, expected = cached.run(), plain.run()
        for first, (number, _) in asked.items():
            talks[number] += expected.tokens[first]
            talks[number] = talks[number][:330]
    aborted = set(expected.finish) - set(results.finish)
    for name, tokens in expected.tokens.items():
        if name not in aborted:
            assert results.tokens[name] == tokens
            assert results.logprobs[name] == expected.logprobs[name], "bitwise"
    assert cached.scheduler.prefixes.hits - hits > 500
    assert plain.scheduler.prefixes.hits == plain.scheduler.prefixes.queries == 0


def test_a_shared_beginning_is_not_computed_again(engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=4, num_threads=2))
    system = text(1, 200)
    queries, hits = stepper.scheduler.prefixes.queries, stepper.scheduler.prefixes.hits
    first, second = system + text(2, 30), system + text(3, 20)
    for row, prompt in enumerate((first, second, first, system[:192])):
        stepper.submit(request(prompt, row, max_tokens=3))
        stepper.run()
    starts = stepper.results.starts
    # Whole tiles; of a prompt that is there to its end, all but the last tile.
    assert [starts[row].cached_tokens for row in range(4)] == [0, 192, 192, 128]
    computed = sum(step.prompt_tokens for step in stepper.results.steps)
    assert computed == 230 + (220 - 192) + (230 - 192) + (192 - 128)
    assert stepper.scheduler.prefixes.queries - queries == 230 + 220 + 230 + 192
    assert stepper.scheduler.prefixes.hits - hits == 192 + 192 + 128


def test_a_conversations_next_turn_goes_on_in_its_slot(engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=3))
    talks = [text(10 + i, 150) for i in range(3)]
    asked = 0
    for turn in range(3):
        for row, talk in enumerate(talks):
            stepper.submit(request(list(talk), 10 * turn + row, max_tokens=4, ignore_eos=True))
        results = stepper.run()
        for row in range(3):
            # All but what was generated, which is computed once as a prompt.
            assert results.starts[10 * turn + row].cached_tokens == asked // TILE * TILE
        asked = len(talks[0])
        for row, talk in enumerate(talks):
            talk += results.tokens[10 * turn + row] + text(turn, 70)
    assert len(stepper.scheduler.prefixes._index) == 3, "no turn is kept beside its next one"


def test_a_running_rows_prompt_is_shared_with_those_that_come(engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=3, prefill_chunk=512))
    prompt = text(20, 300)
    stepper.submit(request(prompt, 0, max_tokens=60, ignore_eos=True))
    stepper.step()
    stepper.submit(request([*prompt[:200], 9], 1, max_tokens=5))
    results = stepper.run()
    assert results.starts[1].cached_tokens == 192


def test_rows_that_run_take_the_place_of_what_rests(engine_of: Loader) -> None:
    engine = engine_of("llama", batch_max=4, kv_cache_bytes=blocks(engine_of, "llama", 512))
    stepper = Stepper(engine)
    for row in range(12):
        stepper.submit(request(text(30 + row, 200), row, max_tokens=100, ignore_eos=True))
    stepper.run()
    scheduler = stepper.scheduler
    assert scheduler.usage == 0.0
    assert 0 < scheduler.prefixes.blocks <= scheduler._budget.blocks
    assert scheduler._budget.free + scheduler.prefixes.blocks == scheduler._budget.blocks
    long = text(50, 500)
    stepper.submit(request(long, 20, max_tokens=12, ignore_eos=True))
    assert len(stepper.run().tokens[20]) == 12


def test_a_poison_rows_tokens_do_not_stay(zoo: Zoo, tmp_path: Any) -> None:
    model = models.build("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[77] = torch.nan
    options = HfOptions(models.save(model, tmp_path), dtype="float32", num_threads=1, batch_max=2)
    stepper = Stepper(load(options, lambda *news: None))
    clean = [token if token != 77 else 78 for token in text(60, 150)]
    bad = [*clean[:100], 77, *clean[101:]]
    for row, prompt in enumerate((bad, clean, bad, clean)):
        stepper.submit(request(prompt, row, max_tokens=4))
        stepper.run()
    results = stepper.results
    reasons = [results.finish[row].reason is FinishReason.ERROR for row in range(4)]
    assert reasons == [True, False, True, False]
    assert results.tokens[1] == results.tokens[3] == zoo.reference("llama").greedy(clean, 4)
    assert results.starts[3].cached_tokens == 128
    assert len(stepper.scheduler.prefixes._index) == 1
    assert not stepper.runner.cache._grid.isnan().any()  # type: ignore[attr-defined]


def test_a_row_that_turns_poisonous_takes_its_prompt_along(engine_of: Loader) -> None:
    stepper = Stepper(engine_of("llama", batch_max=2))
    before = len(stepper.scheduler.prefixes._index)
    stepper.submit(request(text(61, 150), 0, max_tokens=9, ignore_eos=True))
    stepper.step()
    forward = stepper.runner.forward
    stepper.runner.forward = lambda spans: forward(spans) * torch.nan  # type: ignore[method-assign]
    stepper.step()
    stepper.runner.forward = forward  # type: ignore[method-assign]
    assert stepper.results.finish[0].reason is FinishReason.ERROR
    assert len(stepper.scheduler.prefixes._index) == before


def test_a_path_that_cannot_copy_has_no_cache(zoo: Zoo, engine_of: Loader) -> None:
    stepper = Stepper(engine_of("gemma2", batch_max=2))
    prompt = text(70, 200)
    for row in range(2):
        stepper.submit(request(prompt, row, max_tokens=5))
        stepper.run()
    assert stepper.results.tokens[0] == stepper.results.tokens[1]
    assert stepper.results.starts[1].cached_tokens == 0
    assert stepper.scheduler.prefixes.queries == 0


def test_the_engine_tells_of_queries_and_hits(zoo: Zoo) -> None:
    engine = load(HfOptions(zoo.path("llama"), num_threads=1, batch_max=2), lambda *news: None)
    service = Service(engine)
    for row in range(2):
        engine.submit(request(text(80, 100), row, max_tokens=2, ignore_eos=True))
        service.wait(row)
    service.wait_for(lambda: engine.load().kv_cache_usage == 0.0)
    found = engine.load()
    engine.close()
    assert (found.prefix_cache_queries, found.prefix_cache_hits) == (200, 64)


@pytest.mark.parametrize("keep", [0, 1, 63, 64, 100, 128, 256])
def test_what_is_kept_of_a_slot_stays_and_the_rest_reads_as_zero(keep: int) -> None:
    cache = KvCache(KvShape(3, 2, 24), slots=3, max_len=256, align=64)
    cache._grid.copy_(torch.randn(cache._grid.shape))
    before, after = cache._grid.clone(), cache._grid
    cache.release(1, keep)
    assert torch.equal(after[1, ..., :keep, :], before[1, ..., :keep, :])
    assert not after[1, ..., keep:, :].any()
    assert torch.equal(after[[0, 2]], before[[0, 2]])
