"""How the demo model is trained: rates, rows, and attention that is quick on a CPU."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from demo.attention import BLOCK, LONGEST, in_blocks, use_blocks
from demo.batches import SHAPES, Stream
from demo.tokenizer import train_tokenizer
from demo.train import Plan, build_model, loss_of, rate_share


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(seed=1, conversations=300)


@pytest.mark.parametrize("length", [1, 7, BLOCK, BLOCK + 1, LONGEST])
def test_attention_in_blocks_is_causal_attention(length: int) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, length, 32)
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1)
    torch.testing.assert_close(in_blocks(query, key, value), expected)


@pytest.mark.parametrize("shape", [(2, 256), (1, 1024)])
def test_a_model_that_trains_in_blocks_has_the_same_loss(
    tokenizer: Tokenizer, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    model = build_model(tokenizer.get_vocab_size())
    batch = next(b for b in Stream(tokenizer, 2).batches() if b.ids.shape[1] == shape[1])
    expected = loss_of(model, batch).item()
    use_blocks(model)
    assert loss_of(model, batch).item() == pytest.approx(expected, abs=0.01)


def test_rows_have_the_promised_shapes_and_count_what_the_assistant_says(
    tokenizer: Tokenizer,
) -> None:
    for (rows, length), batch in zip(SHAPES, Stream(tokenizer, 1).batches(), strict=False):
        assert batch.ids.shape == batch.counted.shape == (rows, length)
        assert 0.1 < batch.counted.float().mean() < 0.9


def test_the_same_seed_gives_the_same_rows(tokenizer: Tokenizer) -> None:
    first, again, other = (next(Stream(tokenizer, seed).batches()).ids for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_rate_rises_stays_and_falls() -> None:
    plan = Plan(steps=1000, warmup=100)
    shares = [rate_share(step, plan) for step in range(plan.steps)]
    assert shares[:100] == sorted(shares[:100])
    assert set(shares[100:500]) == {1.0}
    assert shares[500:] == sorted(shares[500:], reverse=True)
    assert 0.02 < shares[-1] < 0.03


@pytest.mark.parametrize("name", ["Oluwaseun", "Kyoto", "Gothenburg", "Müller", "McDonald"])
def test_a_name_is_the_same_tokens_in_a_sentence_and_between_quotes(
    tokenizer: Tokenizer, name: str
) -> None:
    """Only so can a model this small copy names into calls and objects."""
    alone = tokenizer.encode(name).tokens
    for text in (f"I live in {name}.", f'{{"city": "{name}"}}', f"{name} is here"):
        tokens = tokenizer.encode(text).tokens
        found = [tokens[at : at + len(alone)] for at in range(len(tokens))]
        assert alone in found, tokens
