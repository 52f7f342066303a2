from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.form import PLAIN
from sluice_gateway.output import Event, Finished, TextDelta, TokenLogprob
from sluice_gateway.output.machine import OutputMachine
from sluice_gateway.output.spec import OutputSpec
from sluice_gateway.schema import CompletionRequest

from tests.gateway.text.samples import model, raw_tokenizer, token_id

EXAMPLES = settings(max_examples=200, deadline=None)
RAW = raw_tokenizer("byte_level")
EOS = token_id("byte_level", "<|im_end|>")
SIZE = RAW.get_vocab_size()
IDS = st.lists(st.integers(0, SIZE - 1), max_size=30)


def machine(**fields: Any) -> OutputMachine:
    request = CompletionRequest(model="demo", prompt="x", **fields)
    return OutputSpec(request, model(), PLAIN).machine()


def ids_of(text: str) -> list[int]:
    return RAW.encode(text, add_special_tokens=False).ids


def score(token_id: int) -> tuple[float, list[tuple[int, float]]]:
    return -0.5 - token_id, [(token_id, -0.5 - token_id), (0, -9.0)]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def entries_of(events: list[Event]) -> list[TokenLogprob]:
    deltas = [event for event in events if isinstance(event, TextDelta)]
    return [entry for delta in deltas for entry in delta.logprobs or []]


def ids_told(events: list[Event]) -> list[int]:
    return [one for event in events if isinstance(event, TextDelta) for one in event.token_ids]


def run(one: OutputMachine, ids: list[int], cuts: list[int], *, scores: bool) -> list[Event]:
    ends = sorted({min(cut, len(ids)) for cut in cuts} | {len(ids)})
    events: list[Event] = []
    for start, end in zip([0, *ends], ends, strict=False):
        part = ids[start:end]
        events += one.feed(part, [score(token) for token in part] if scores else None)
    return [*events, *one.close("length")]


def test_text_comes_token_by_token_and_the_end_once() -> None:
    one = machine()
    events = [event for token in ids_of("hello there") for event in one.feed([token])]
    assert text_of(events) == "hello there"
    assert len(events) == len(ids_of("hello there"))
    assert one.close("length") == [Finished("length")]
    assert one.close("length") == []
    assert one.completion_tokens == len(ids_of("hello there"))


def test_the_end_of_sequence_token_is_counted_but_not_shown() -> None:
    one = machine(skip_special_tokens=False)
    events = one.feed([*ids_of("hello"), EOS]) + one.close("stop")
    assert text_of(events) == "hello"
    assert events[-1] == Finished("stop")
    assert one.completion_tokens == len(ids_of("hello")) + 1


def test_a_stop_token_of_the_request_is_hidden_unless_it_is_to_be_included() -> None:
    stop = ids_of("!")[0]
    ids = [*ids_of("hello"), stop]
    assert text_of(machine(stop_token_ids=[stop]).feed(ids)) == "hello"
    included = machine(stop_token_ids=[stop], include_stop_str_in_output=True)
    assert text_of(included.feed(ids)) == "hello!"
    # The model's own end is no stop token of the request.
    own = machine(include_stop_str_in_output=True, skip_special_tokens=False)
    assert text_of(own.feed([*ids_of("hello"), EOS])) == "hello"


def test_with_ignore_eos_the_end_of_sequence_token_is_a_token_like_others() -> None:
    one = machine(ignore_eos=True, skip_special_tokens=False)
    assert text_of(one.feed([*ids_of("a"), EOS, *ids_of("b")])) == "a<|im_end|>b"


def test_ids_after_the_end_are_as_if_they_had_not_come() -> None:
    one = machine()
    assert text_of(one.feed([*ids_of("a"), EOS, *ids_of("b")])) == "a"
    assert one.feed(ids_of("c")) == []
    assert one.completion_tokens == 2


def test_a_stop_string_ends_the_choice_and_says_so() -> None:
    one = machine(stop="the")
    events = one.feed(ids_of("over the lazy"))
    assert text_of(events) == "over "
    assert events[-1] == Finished("stop", by_stop_string=True)
    assert one.finished
    assert one.feed(ids_of("more")) == []
    assert one.close("length") == []


def test_a_stop_string_may_be_included() -> None:
    one = machine(stop=["the"], include_stop_str_in_output=True)
    assert text_of(one.feed(ids_of("over the lazy"))) == "over the"


def test_a_held_beginning_of_a_stop_string_comes_out_at_the_end() -> None:
    one = machine(stop="STOP")
    assert text_of(one.feed(ids_of("a ST"))) == "a "
    assert one.close("length") == [TextDelta("ST"), Finished("length")]


def test_a_stop_string_does_not_count_before_min_tokens() -> None:
    one = machine(stop="a", min_tokens=2, max_tokens=16)
    assert text_of(one.feed(ids_of("a") * 4)) == "aa"
    assert one.completion_tokens == 3


def test_log_probabilities_go_out_with_the_text_they_belong_to() -> None:
    one, smile = machine(logprobs=1), ids_of("🙂")
    first = one.feed(smile[:1], [score(smile[0])])
    assert first == []
    events = [event for token in smile[1:] for event in one.feed([token], [score(token)])]
    assert len(events) == 1
    assert text_of(events) == "🙂"
    assert b"".join(entry.raw for entry in entries_of(events)) == "🙂".encode()


def test_the_log_probability_of_the_end_token_is_not_lost() -> None:
    one = machine(logprobs=1)
    ids = [*ids_of("hello"), EOS]
    events = one.feed(ids, [score(token) for token in ids]) + one.close("stop")
    assert len(entries_of(events)) == len(ids)
    assert events[-1] == Finished("stop")


def test_the_offset_of_a_token_that_was_cut_away_is_the_end_of_the_text() -> None:
    ids = [*ids_of("x"), *ids_of("a"), *ids_of("b")]
    events = machine(stop="ab", logprobs=0).feed(ids, [score(token) for token in ids])
    assert text_of(events) == "x"
    assert [entry.offset for entry in entries_of(events)] == [0, 1, 1]


@pytest.mark.parametrize("logprob", [float("-inf"), float("nan"), -20000.0])
def test_log_probabilities_have_a_floor(logprob: float) -> None:
    events = machine(logprobs=1).feed(ids_of("a"), [(logprob, [(5, logprob)])])
    entry = entries_of(events)[0]
    assert entry.logprob == -9999.0
    assert entry.top[0].logprob == -9999.0


def test_token_ids_are_told_only_when_asked_for() -> None:
    ids = [*ids_of("hello there"), EOS]
    one = machine(return_token_ids=True)
    assert ids_told(one.feed(ids) + one.close("stop")) == ids
    assert ids_told(machine().feed(ids)) == []


@EXAMPLES
@given(
    IDS,
    st.lists(st.integers(0, 30), max_size=6),
    st.fixed_dictionaries(
        {},
        optional={
            "stop": st.lists(st.sampled_from(["e", "th", "he ", "\ufffd"]), min_size=1, max_size=4),
            "skip_special_tokens": st.booleans(),
            "include_stop_str_in_output": st.booleans(),
            "stop_token_ids": st.lists(st.integers(0, SIZE - 1), max_size=3),
            "ignore_eos": st.booleans(),
            "min_tokens": st.integers(0, 5),
            "return_token_ids": st.booleans(),
        },
    ),
    st.booleans(),
)
def test_any_cutting_of_the_tokens_gives_the_same_answer(
    ids: list[int], cuts: list[int], fields: dict[str, Any], scores: bool
) -> None:
    whole, cut = machine(**fields), machine(**fields)
    first = run(whole, ids, [], scores=scores)
    second = run(cut, ids, [*cuts, *range(0, 30, 2)], scores=scores)
    assert text_of(first) == text_of(second)
    assert entries_of(first) == entries_of(second)
    assert ids_told(first) == ids_told(second)
    assert first[-1] == second[-1]
    assert whole.completion_tokens == cut.completion_tokens
    assert [type(event) for event in second].count(Finished) == 1
    assert all(entry.offset <= len(text_of(second)) for entry in entries_of(second))
    if scores:
        assert len(entries_of(second)) == cut.completion_tokens
        assert [entry.offset for entry in entries_of(second)] == sorted(
            entry.offset for entry in entries_of(second)
        )
    if fields.get("return_token_ids"):
        assert ids_told(second) == ids[: cut.completion_tokens]


@EXAMPLES
@given(IDS)
def test_offsets_point_at_each_token_in_the_text(ids: list[int]) -> None:
    one = machine(ignore_eos=True, skip_special_tokens=False, logprobs=0)
    events = run(one, ids, list(range(30)), scores=True)
    text = text_of(events)
    for entry in entries_of(events):
        try:
            shown = entry.raw.decode()
        except UnicodeDecodeError:
            continue
        # Half a character before it is replaced only when this token has come.
        assert text[entry.offset :].lstrip("\ufffd").startswith(shown.lstrip("\ufffd"))
