"""Keys and values: bounded, accounted for, and given back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from sluice_worker.engines.hf.kv_cache import KvBudget, KvCache, KvShape
from sluice_worker.engines.hf.machine import trim_memory

from tests.worker.hf import models
from tests.worker.hf.conftest import Loader
from tests.worker.hf.driver import Stepper, request


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize(("heads", "head_dim"), [(1, 16), (2, 16), (3, 64), (8, 128), (5, 24)])
def test_a_block_fills_whole_pages(heads: int, head_dim: int) -> None:
    shape = KvShape(layers=3, heads=heads, head_dim=head_dim)
    assert shape.block_tokens >= 16
    assert shape.block_bytes % (3 * 2 * heads * 4096) == 0


def test_a_released_slot_gives_its_memory_back_and_reads_as_zero() -> None:
    cache = KvCache(KvShape(4, 4, 64), slots=4, max_len=4096, align=64)
    before = resident()
    size = cache.shape.token_bytes * 4096
    for slot in range(4):
        places = cache.places([slot] * 4096, list(range(4096)))
        for layer in range(4):
            cache.write(places[layer], torch.full((4096, cache.shape.width), float(slot + 1)))
    assert resident() - before > 3.5 * size
    assert (cache.keys[2][1] == 2.0).all()
    assert (cache.values[3][3] == 4.0).all()
    for slot in (0, 1, 3):
        cache.release(slot)
    trim_memory()  # of what the test itself wrote them from
    assert resident() - before < 1.5 * size
    assert (cache.keys[0][2] == 3.0).all()
    assert not cache.keys[2][1].any()
    cache.release(2)


def test_only_what_was_written_is_in_memory() -> None:
    before = resident()
    cache = KvCache(KvShape(32, 8, 128), slots=64, max_len=131072, align=64)
    assert cache.max_len == 131072
    assert resident() - before < 16 << 20


def test_copying_a_prefix_copies_every_layer() -> None:
    cache = KvCache(KvShape(2, 2, 32), slots=2, max_len=128, align=64)
    cache._grid.copy_(torch.randn(cache._grid.shape))
    cache.release(1)
    cache.copy(0, 1, 70)
    for layer in range(2):
        assert torch.equal(cache.keys[layer][0, :, :70], cache.keys[layer][1, :, :70])
        assert torch.equal(cache.values[layer][0, :, :70], cache.values[layer][1, :, :70])
        assert not cache.values[layer][1, :, 70:].any()


def test_a_budget_gives_no_more_than_it_has() -> None:
    budget = KvBudget(10, block_tokens=16)
    assert budget.needed(16) == 1
    assert budget.needed(17) == 2
    assert budget.take(9)
    assert not budget.take(2)
    assert budget.take(1)
    assert budget.usage == 1.0
    budget.give(10)
    assert budget.usage == 0.0


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_keys_stay_within_the_budget_at_every_step(kind: str, engine_of: Loader) -> None:
    shape = engine_of(kind)._runner.cache.shape  # type: ignore[union-attr]
    size = shape.block_bytes * (320 // shape.block_tokens)
    engine = engine_of(kind, kv_cache_bytes=size, batch_max=8)
    assert engine.model.max_model_len == 320
    stepper = Stepper(engine)
    cache = stepper.runner.cache  # type: ignore[attr-defined]
    for row, prompt in enumerate(models.prompts(8, 4, 120)):
        stepper.submit(request(prompt, row, max_tokens=30))
    while stepper.step():
        rows = stepper.scheduler.running
        charged = sum(row.blocks for row in rows)
        held = sum(-(-row.computed // shape.block_tokens) for row in rows)
        assert held <= charged
        charged += stepper.scheduler.prefixes.blocks  # what ended rows left
        assert charged <= 320 // shape.block_tokens
        assert charged * shape.block_bytes <= size
        written = int((cache._grid[:, 0, :, 0, 0] != 0).any(-1).sum())
        assert written <= charged * shape.block_tokens
    assert stepper.scheduler.usage == 0.0
    left = stepper.scheduler.prefixes.blocks
    written = int((cache._grid[:, 0, :, 0, 0] != 0).any(-1).sum())
    assert 0 < written <= left * shape.block_tokens


def test_a_row_that_fits_later_waits_and_none_overtakes_it(engine_of: Loader) -> None:
    shape = engine_of("llama")._runner.cache.shape  # type: ignore[union-attr]
    engine = engine_of(
        "llama", kv_cache_bytes=shape.block_bytes * (320 // shape.block_tokens), batch_max=8
    )
    stepper = Stepper(engine)
    prompt = models.prompts(1, 6, 300)[0] * 3
    stepper.submit(request(prompt[:200], 0, max_tokens=8, ignore_eos=True))
    stepper.submit(request(prompt[:250], 1, max_tokens=8, ignore_eos=True))
    stepper.submit(request(prompt[:10], 2, max_tokens=8, ignore_eos=True))
    stepper.step()
    assert [row.key.row_id for row in stepper.scheduler.waiting] == [1, 2]
    results = stepper.run()
    order = [row.key.row_id for step in results.steps for row in step.rows if row.finish]
    assert order[0] == 0
    assert len(order) == 3


@pytest.mark.parametrize("kind", ["llama", "bloom"])
def test_a_thousand_submits_and_aborts_leave_no_row_and_no_block(
    kind: str, engine_of: Loader
) -> None:
    chance = random.Random(1)
    count = 1000 if kind == "llama" else 60
    stepper = Stepper(engine_of(kind, batch_max=4))
    lot = models.prompts(20, 7, 100)
    for row in range(count):
        stepper.submit(request(chance.choice(lot), row, max_tokens=chance.randrange(1, 6)))
        if chance.random() < 0.3:
            stepper.step()
        if chance.random() < 0.9:
            stepper.abort(*(chance.randrange(row + 1) for _ in range(3)))
    stepper.run()
    resting = stepper.scheduler.prefixes._resting
    assert sorted([*stepper.scheduler._slots, *resting]) == list(range(4))
    assert not stepper.scheduler.waiting
    assert not getattr(stepper.runner, "_caches", None)
