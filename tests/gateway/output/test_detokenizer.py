from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.text.samples import CORPUS, KINDS, raw_tokenizer, token_id, tokenizer

EXAMPLES = settings(max_examples=100, deadline=None)


def pieces(ids: list[int], cuts: list[int]) -> list[list[int]]:
    ends = sorted({min(cut, len(ids)) for cut in cuts} | {len(ids)})
    starts = [0, *ends[:-1]]
    return [ids[start:end] for start, end in zip(starts, ends, strict=True)]


def detokenized(kind: str, parts: list[list[int]], *, skip: bool) -> str:
    machine = tokenizer(kind).detokenizer(skip_special_tokens=skip)
    return "".join([machine.feed(part) for part in parts]) + machine.flush()


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(st.data())
def test_the_text_equals_decoding_all_ids_at_once(kind: str, data: st.DataObject) -> None:
    # A few ids beyond the vocabulary: logits are often wider.
    top = raw_tokenizer(kind).get_vocab_size() + 3
    ids = data.draw(st.lists(st.integers(0, top), max_size=40))
    skip = data.draw(st.booleans())
    expected = raw_tokenizer(kind).decode(ids, skip_special_tokens=skip)
    assert detokenized(kind, [[one] for one in ids], skip=skip) == expected
    assert tokenizer(kind).decode(ids, skip_special_tokens=skip) == expected


@pytest.mark.parametrize("kind", ["byte_level", "llama", "gemma"])
@EXAMPLES
@given(st.data())
def test_bytes_of_any_kind_decode_as_a_whole(kind: str, data: st.DataObject) -> None:
    """Runs of byte tokens: the case in which incremental decoders go wrong."""
    raw = raw_tokenizer(kind)
    # The bytes of an emoji and of an accented letter, one that is never UTF-8, and a letter.
    alphabet = ["ð", "Ł", "ĺ", "Ĥ", "Ã", "©", "ÿ", "a", "<|im_end|>"]
    pieces_ = ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0xC3>", "<0xA9>", "<0xFF>", "▁", "</s>"]
    names = [token_id(kind, name) for name in (alphabet if kind == "byte_level" else pieces_)]
    ids = data.draw(st.lists(st.sampled_from(names), max_size=20))
    cuts = data.draw(st.lists(st.integers(0, 20), max_size=5))
    for skip in (True, False):
        expected = raw.decode(ids, skip_special_tokens=skip)
        assert detokenized(kind, pieces(ids, cuts), skip=skip) == expected


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(st.data())
def test_any_cutting_gives_the_same_text(kind: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(CORPUS) | st.text(max_size=30))
    ids = raw_tokenizer(kind).encode(text).ids
    cuts = data.draw(st.lists(st.integers(0, 40), max_size=6))
    one_by_one = detokenized(kind, [[one] for one in ids], skip=True)
    assert detokenized(kind, pieces(ids, cuts), skip=True) == one_by_one


def test_half_a_character_is_held_back() -> None:
    ids = raw_tokenizer("byte_level").encode("🙂").ids
    machine = tokenizer("byte_level").detokenizer()
    assert len(ids) > 1
    assert [machine.feed([one]) for one in ids[:-1]] == [""] * (len(ids) - 1)
    assert machine.feed(ids[-1:]) == "🙂"
    assert machine.flush() == ""


def test_half_a_character_at_the_end_becomes_a_replacement_character() -> None:
    ids = raw_tokenizer("byte_level").encode("a🙂").ids[:-1]
    machine = tokenizer("byte_level").detokenizer()
    assert machine.feed(ids) + machine.flush() == "a\ufffd"


@pytest.mark.parametrize("kind", ["byte_level", "llama", "gemma", "unigram_always"])
def test_common_vocabularies_need_no_second_decoding(kind: str) -> None:
    name = type(tokenizer(kind).detokenizer()).__name__
    assert name in {"ByteDetokenizer", "PieceDetokenizer"}


def test_tokens_without_text_do_not_grow_the_window() -> None:
    machine = tokenizer("word_piece").detokenizer(skip_special_tokens=True)
    hidden = token_id("word_piece", "[SEP]")
    assert machine.feed([hidden] * 1000) == ""
    assert machine._window == []  # type: ignore[attr-defined]
