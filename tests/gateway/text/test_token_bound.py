from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.token_bound import TokenBound

from tests.gateway.text.samples import CORPUS, KINDS, raw_tokenizer, tokenizer

TEXT = st.text(max_size=60) | st.text("ae\u0301\u0308\u0345 ", max_size=60)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(TEXT | st.sampled_from(CORPUS).map(lambda line: line * 20))
def test_no_text_has_fewer_tokens_than_the_bound(kind: str, text: str) -> None:
    ids = tokenizer(kind).encode(text, add_special_tokens=False)
    assert tokenizer(kind).least_tokens(text) <= len(ids)


@pytest.mark.parametrize("kind", ["byte_level", "gemma", "llama", "normalized"])
def test_a_huge_text_is_known_to_be_too_long(kind: str) -> None:
    assert tokenizer(kind).least_tokens("a" * 1_300_000) > 10_000


@pytest.mark.parametrize("kind", ["word_piece", "unigram_always", "suffixed", "odd"])
def test_where_text_may_vanish_there_is_no_bound(kind: str) -> None:
    assert tokenizer(kind).least_tokens("a" * 1_300_000) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "StripAccents"}},
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "a"}},
        {"normalizer": {"type": "Replace", "pattern": {"String": "aa"}, "content": "a"}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}]}},
        {"added_tokens": [{"content": "<x>", "rstrip": True}]},
        {"model": {"type": "BPE", "byte_fallback": False}},
    ],
)
def test_a_tokenizer_that_may_drop_text_has_no_bound(change: dict[str, object]) -> None:
    spec = json.loads(raw_tokenizer("gemma").to_str())
    tokens = list(raw_tokenizer("gemma").get_vocab())
    assert TokenBound.of(spec, tokens).per_token
    assert TokenBound.of({**spec, **change}, tokens).per_token is None
