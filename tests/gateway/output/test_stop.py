from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.output.stop import StopFilter, StopStrings

EXAMPLES = settings(max_examples=200, deadline=None)
# Few letters, so that prefixes overlap all the time.
TEXT = st.text("ab", max_size=30)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4)


def reference(text: str, stops: list[str], *, include: bool) -> tuple[str, bool]:
    """The first end of a stop string; of several that end there, the longest."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return (text[:end] if include else text[: end - max(map(len, found))]), True
    return text, False


def filtered(pieces: list[str], stops: list[str], *, include: bool = False) -> tuple[str, bool]:
    machine = StopFilter(StopStrings(stops), include=include)
    shown = ""
    for piece in pieces:
        text, hit = machine.feed(piece)
        shown += text
        if hit:
            return shown, True
    return shown + machine.flush(), False


@EXAMPLES
@given(TEXT, STOPS, st.lists(st.integers(0, 30)), st.booleans())
def test_any_cutting_ends_at_the_same_character(
    text: str, stops: list[str], cuts: list[int], include: bool
) -> None:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    expected = reference(text, stops, include=include)
    assert filtered(pieces, stops, include=include) == expected
    assert filtered(list(text), stops, include=include) == expected


@EXAMPLES
@given(TEXT, STOPS)
def test_what_is_held_back_is_the_longest_beginning_of_a_stop_string(
    text: str, stops: list[str]
) -> None:
    machine = StopFilter(StopStrings(stops))
    seen = shown = ""
    for char in text:
        piece, hit = machine.feed(char)
        seen, shown = seen + char, shown + piece
        if hit:
            return
        held = [
            size
            for size in range(len(seen) + 1)
            if any(stop.startswith(seen[len(seen) - size :]) for stop in stops)
        ]
        assert len(seen) - len(shown) == max(held)


def test_a_stop_string_in_the_middle_of_a_piece_cuts_it() -> None:
    assert filtered(["one STOP two"], ["STOP"]) == ("one ", True)
    assert filtered(["one STOP two"], ["STOP"], include=True) == ("one STOP", True)


def test_a_stop_string_across_pieces_is_found() -> None:
    assert filtered(["one S", "T", "OP two"], ["STOP"]) == ("one ", True)


def test_a_beginning_that_leads_nowhere_is_given_back() -> None:
    assert filtered(["one ST", "ART"], ["STOP"]) == ("one START", False)
    assert filtered(["one ST"], ["STOP"]) == ("one ST", False)


def test_characters_of_regular_expressions_are_characters() -> None:
    assert filtered(["a]b"], ["]"]) == ("a", True)
    assert filtered(["a^-\\b"], ["^-\\"]) == ("a", True)


def test_no_empty_stop_string_is_taken() -> None:
    with pytest.raises(ValueError, match="not empty"):
        StopStrings([""])


def test_the_work_grows_with_the_text_alone() -> None:
    stops = StopStrings(["a" * size + "b" for size in range(900, 916)])

    def seconds(length: int) -> float:
        machine, start = StopFilter(stops), time.process_time()
        for _ in range(length):
            machine.feed("a")
        return time.process_time() - start

    # A scan of all that is held back would take hundreds of times as long.
    assert seconds(40_000) < 2.0
