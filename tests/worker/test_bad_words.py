from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from sluice_worker.engines.bad_words import BadWords, straddled

WORDS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), max_size=5)
IDS = st.lists(st.integers(0, 2), max_size=8)


def ends_with(ids: list[int], word: tuple[int, ...]) -> bool:
    return tuple(ids[-len(word) :]) == word


@given(WORDS, IDS, IDS)
def test_a_token_is_barred_exactly_where_it_would_end_a_word(
    words: list[tuple[int, ...]], before: list[int], more: list[int]
) -> None:
    followed = BadWords(words, before)
    for token in more:
        followed.add(token)
    generated = before + more
    expected = {
        token for token in range(3) if any(ends_with([*generated, token], w) for w in words)
    }
    assert set(followed.barred()) == expected


def test_a_word_is_straddled_by_its_beginning_alone() -> None:
    words = [(1, 2, 3), (9,)]
    assert straddled(words, [7, 1])
    assert straddled(words, [7, 1, 2])
    assert not straddled(words, [])
    assert not straddled(words, [1, 2, 3])
    assert not straddled(words, [2, 9])
