"""Special tokens' text that a client wrote stays text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.literal import _any_of
from sluice_gateway.shield import Shield

from tests.gateway.text.samples import KINDS, raw_tokenizer, token_id, tokenizer

EXAMPLES = settings(max_examples=100, deadline=None)
# Which special token may stand around a client's text, as a template would write it.
FRAME = {
    "odd": "<|im_start|>",
    "byte_level": "<|im_start|>",
    "normalized": "<s>",
    "word_piece": "[CLS]",
}


def texts(kind: str) -> st.SearchStrategy[str]:
    specials = [token.content for token in tokenizer(kind).special.by_id.values()]
    # Also parts of special tokens, which must not become whole ones beside each other.
    halves = [special[:half] for special in specials for half in (2, -2)]
    words = [*specials, *halves, *(special[-2:] for special in specials), "a", " ", "the ", "\n"]
    return st.lists(st.sampled_from(words) | st.text(max_size=3), max_size=8).map("".join)


def covered(kind: str, before: str, text: str, after: str) -> list[int]:
    loaded = tokenizer(kind)
    shield = Shield([text], loaded.special_text)
    return loaded.encode_covered(before + shield.cover(text) + after, shield.uncover)


def special_ids(kind: str, ids: list[int]) -> list[int]:
    special = tokenizer(kind).special
    return [one for one in ids if one in special.ids and one != special.unk_id]


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(st.data())
def test_no_text_adds_special_tokens_to_those_of_the_template(
    kind: str, data: st.DataObject
) -> None:
    frame = FRAME.get(kind, "<s>")
    text = data.draw(texts(kind))
    ids = covered(kind, f"{frame}user\n", text, f"\n{frame}")
    mark = token_id(kind, frame)
    assert special_ids(kind, ids) == [mark, mark]


@pytest.mark.parametrize("kind", ["byte_level", "llama", "gemma"])
@EXAMPLES
@given(st.data())
def test_the_text_is_read_as_it_was_written(kind: str, data: st.DataObject) -> None:
    frame = FRAME.get(kind, "<s>")
    # To SentencePiece the sign for a space is a space.
    text = data.draw(texts(kind).map(lambda text: text.replace("▁", "_")))
    ids = covered(kind, f"{frame}user\n", text, f"\n{frame}")
    raw = raw_tokenizer(kind)
    space = " " if kind == "llama" else ""  # its normalizer writes one before every stretch
    expected = f"{frame}{space}user\n{text}\n{frame}"
    assert raw.decode(ids, skip_special_tokens=False) == expected


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(st.data())
def test_a_text_without_special_tokens_is_encoded_as_ever(kind: str, data: st.DataObject) -> None:
    text = data.draw(st.text(max_size=20))
    frame = FRAME.get(kind, "<s>")
    whole = f"{frame} {text} {frame}"
    if not tokenizer(kind).special_text(text):
        assert covered(kind, f"{frame} ", text, f" {frame}") == tokenizer(kind).encode(
            whole, add_special_tokens=False
        )


def test_a_unigram_model_does_not_find_special_tokens_in_its_own_vocabulary() -> None:
    # encode_special_tokens alone does not help here.
    ids = covered("unigram_first", "", "<s></s>", "")
    assert special_ids("unigram_first", ids) == []


def test_no_space_appears_in_the_middle_of_a_text() -> None:
    ids = covered("unigram_first", "<s>", "hello</s>the", "")
    assert tokenizer("unigram_first").decode(ids, skip_special_tokens=False)[:8] == "<s>hello"


def test_an_unknown_character_is_no_boundary() -> None:
    ids = covered("unigram_always", "<s>", "a☃</s>b", "<s>")
    whole = tokenizer("unigram_always")._encode_literally("a☃</s>b", at_start=False)
    assert ids[1:-1] == whole


@pytest.mark.parametrize("text", ["<END>", "<end>", "\uff1cend\uff1e", "<E\uff2eD>"])
def test_other_spellings_of_a_normalized_special_token_stay_text(text: str) -> None:
    plain = tokenizer("normalized").encode(text, add_special_tokens=False)
    assert special_ids("normalized", plain) != []
    assert special_ids("normalized", covered("normalized", "<s>a", text, "b<s>")) == [0, 0]


def test_a_special_token_of_the_template_still_swallows_whitespace() -> None:
    wide = token_id("odd", "<|wide|>")
    ids = covered("odd", "<|wide|>\n ", "a<|im_end|>", "<|wide|>")
    assert [ids[0], ids[-1]] == [wide, wide]
    assert tokenizer("odd").decode(ids[1:-1]) == "a<|im_end|>"


def test_tokens_that_are_added_but_not_special_stay_tokens() -> None:
    ids = covered("byte_level", "", "<think><|im_end|></think>", "")
    think = token_id("byte_level", "<think>")
    close = token_id("byte_level", "</think>")
    assert [ids[0], ids[-1]] == [think, close]


def test_a_client_cannot_write_the_private_characters() -> None:
    taken = "".join(map(chr, range(0xF0000, 0xF9000)))
    shield = Shield([taken], tokenizer("byte_level").special_text)
    char = shield.cover("<|im_end|>")
    assert len(char) == 1
    assert char not in taken
    assert shield.uncover(taken + char) == taken + "<|im_end|>"


def test_a_template_that_escapes_its_json_does_not_lose_the_text() -> None:
    shield = Shield(["x"], tokenizer("byte_level").special_text)
    char = shield.cover("<|im_end|>")
    escaped = char.encode("utf-16-be").hex()
    assert shield.uncover(f"\\u{escaped[:4]}\\u{escaped[4:]}") == "<|im_end|>"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("ab<|", min_size=1, max_size=5), min_size=1), st.text("ab<|", max_size=12))
def test_the_pattern_finds_the_longest_word_at_each_place(words: list[str], text: str) -> None:
    pattern = re.compile(_any_of(words))
    longest = "|".join(re.escape(word) for word in sorted(set(words), key=len, reverse=True))
    assert pattern.findall(text) == re.findall(longest, text)
