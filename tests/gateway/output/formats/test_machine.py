"""What models write, cut in every way, and what is made of it."""

from __future__ import annotations

import json
import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.output.formats import (
    AnswerEvent,
    ContentDelta,
    Opening,
    ReasoningDelta,
    ToolArguments,
    ToolCallStart,
)

from tests.gateway.output.formats.reading import Meaning, Transcript, machine
from tests.gateway.output.formats.transcripts import TRANSCRIPTS

ids = [one.name for one in TRANSCRIPTS]
each = pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=ids)


def pieces(text: str, cuts: list[int]) -> list[str]:
    ends = [*sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def said(meaning: Meaning) -> tuple[Any, ...]:
    return meaning.content, meaning.reasoning, meaning.calls, meaning.order


@each
def test_a_transcript_means_what_it_says(transcript: Transcript) -> None:
    meaning = transcript.read([transcript.text])
    assert meaning.calls == list(transcript.calls)
    assert meaning.content == transcript.content
    assert meaning.reasoning == transcript.reasoning
    assert transcript.order in (None, meaning.order)


@each
def test_every_cut_gives_the_same(transcript: Transcript) -> None:
    text = transcript.text
    whole = said(transcript.read([text]))
    assert said(transcript.read(list(text))) == whole
    for cut in range(len(text)):
        assert said(transcript.read([text[:cut], text[cut:]])) == whole, cut


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(TRANSCRIPTS), st.lists(st.integers(0, 250), max_size=12), st.booleans())
def test_many_cuts_give_the_same(transcript: Transcript, cuts: list[int], truncated: bool) -> None:
    parts = pieces(transcript.text, cuts)
    whole = transcript.read([transcript.text], truncated=truncated)
    assert said(transcript.read(parts, truncated=truncated)) == said(whole)


FRAGMENTS = st.sampled_from(
    sorted(
        {
            text[start:end]
            for one in TRANSCRIPTS
            for text in [one.text]
            for start, end in [(0, 9), (3, 30), (9, 12), (len(text) // 2, len(text)), (20, 60)]
        }
        | {"<", "{", "}", '"', "\\", "\n", " ", "x", "</think>", '"name"', "[TOOL_CALLS]", ":", ","}
    )
)


@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from(TRANSCRIPTS),
    st.lists(FRAGMENTS, max_size=12).map("".join),
    st.lists(st.integers(0, 300), max_size=12),
    st.booleans(),
)
def test_nonsense_raises_nothing_and_means_the_same_however_it_is_cut(
    transcript: Transcript, text: str, cuts: list[int], truncated: bool
) -> None:
    whole = said(transcript.read([text], truncated=truncated))
    assert said(transcript.read(list(text), truncated=truncated)) == whole
    assert said(transcript.read(pieces(text, cuts), truncated=truncated)) == whole


@each
def test_a_text_cut_off_anywhere_keeps_what_was_streamed(transcript: Transcript) -> None:
    text = transcript.text
    whole = transcript.read([text])
    for size in range(len(text)):
        reading, streamed = transcript.machine(), Meaning()
        for event in reading.feed(text[:size]):
            streamed.add(event)
        assert whole.content.startswith(streamed.content)
        assert whole.reasoning.startswith(streamed.reasoning)
        assert len(streamed.calls) <= len(whole.calls)
        for (name, arguments), known in zip(streamed.calls, whole.calls, strict=False):
            assert name == known[0]
            assert known[1].startswith(arguments)
        for event in reading.close(True):  # what was held back
            streamed.add(event)


@each
def test_each_character_belongs_to_the_same_kind_of_event_however_it_is_cut(
    transcript: Transcript,
) -> None:
    def kinds(parts: list[str]) -> str:
        reading, found = transcript.machine(), ""
        events: list[AnswerEvent] = []
        for part in parts:
            events += reading.feed(part)
        events += reading.close()
        letters = {ContentDelta: "c", ReasoningDelta: "r", ToolCallStart: "t", ToolArguments: "a"}
        for event in events:
            assert event.end >= len(found)
            found = found.ljust(event.end, letters[type(event)])
        assert len(found) <= len(transcript.text)
        return found

    text = transcript.text
    whole = kinds([text])
    assert kinds(list(text)) == whole
    for cut in range(len(text)):
        assert kinds([text[:cut], text[cut:]]) == whole


def test_arguments_stream_as_they_come() -> None:
    reading = machine("hermes")
    assert reading.feed('<tool_call>\n{"name": "get_weather", "argu') == []
    first = reading.feed('ments": {"ci')
    assert [type(event) for event in first] == [ToolCallStart, ToolArguments]
    assert reading.feed('ty": ') == [ToolArguments(0, 'ty": ', 58)]
    assert reading.feed('"Par') == [ToolArguments(0, '"Par', 62)]
    assert reading.feed('is"}}\n</tool_call>') == [ToolArguments(0, 'is"}', 66)]
    assert reading.close() == []


def test_text_of_an_xml_parameter_streams_as_it_comes() -> None:
    reading = machine("qwen3_coder")
    reading.feed("<tool_call>\n<function=get_weather>\n<parameter=city>\n")
    (event,) = reading.feed('New "')
    assert isinstance(event, ToolArguments)
    assert event.text == 'New \\"'


def test_content_and_reasoning_are_not_held_back() -> None:
    reading = machine("hermes", "think")
    assert reading.feed("<think>a") == [ReasoningDelta("a", 8)]
    assert reading.feed(" b <") == [ReasoningDelta(" b", 10)]
    assert reading.feed("c</think>d") == [ReasoningDelta(" <c", 13), ContentDelta("d", 22)]
    assert reading.feed(" <too") == []
    assert reading.feed("th>") == [ContentDelta(" <tooth>", 30)]


@pytest.mark.parametrize(
    "text", ['<tool_call>\n{"name": "get_we', "<tool_call>", '<tool_call>{"name": "now", "ar']
)
def test_a_call_cut_off_by_a_limit_is_no_content(text: str) -> None:
    reading = machine("hermes")
    assert reading.feed(text) + reading.close(True) == []
    reading = machine("hermes")
    assert reading.feed(text) + reading.close(False) == [ContentDelta(text, len(text))]


def test_without_tools_nothing_is_a_call() -> None:
    text = '<tool_call>{"name": "now"}</tool_call>'
    nothing: list[dict[str, dict[str, Any]] | None] = [None, {}]
    for offered in nothing:
        reading = machine("hermes", offered=offered)
        (event,) = reading.feed(text)
        assert event == ContentDelta(text, len(text))
        assert reading.calls == 0


def test_harmony_without_tools_is_still_read() -> None:
    reading = machine("harmony", "harmony", offered=None)
    events = reading.feed("<|channel|>analysis<|message|>A<|end|>") + reading.feed(
        "<|start|>assistant<|channel|>final<|message|>B"
    )
    assert [(type(event), getattr(event, "text", "")) for event in events] == [
        (ReasoningDelta, "A"),
        (ContentDelta, "B"),
    ]


def test_ids_are_unique_and_of_openais_form() -> None:
    for name in ("hermes", "mistral_v11"):
        reading = machine(name)
        call = '<tool_call>{"name": "now"}</tool_call>'
        text = call if name == "hermes" else "[TOOL_CALLS]now[ARGS]{}"
        events = reading.feed(text * 50) + reading.close()
        found = [event.id for event in events if isinstance(event, ToolCallStart)]
        assert len(set(found)) == 50
        assert all(one.startswith("call_") for one in found)


def test_a_models_own_id_is_kept_where_its_template_wants_it() -> None:
    reading = machine("mistral_v11")
    (start, _) = reading.feed("[TOOL_CALLS]now[CALL_ID]a1b2c3d4e[ARGS]{}")
    assert isinstance(start, ToolCallStart)
    assert start.id == "call_a1b2c3d4e"


def test_an_id_that_a_model_repeats_is_told_once() -> None:
    reading = machine("mistral_v11")
    events = reading.feed("[TOOL_CALLS]now[CALL_ID]a1b2c3d4e[ARGS]{}" * 2) + reading.close()
    found = [event.id for event in events if isinstance(event, ToolCallStart)]
    assert len(set(found)) == 2


LONG = 4000
ADVERSARIAL = {
    "marks begun": ("hermes", "<tool_cal" * LONG),
    "calls begun": ("hermes", "<tool_call>" * LONG),
    "names begun": ("hermes", '<tool_call>{"name": "aaaaaaaaa' * LONG),
    "arguments first": ("hermes", '<tool_call>{"arguments": {' + '"a": 1, ' * LONG),
    "unknown keys": ("hermes", "<tool_call>{" + '"k": {"a": "b"}, ' * LONG),
    "whitespace": ("hermes", "a" + " \n" * LONG * 4),
    "nesting": ("hermes", '<tool_call>{"name": "now", "arguments": ' + '{"a":[' * LONG),
    "backslashes": ("hermes", '<tool_call>{"name": "now", "arguments": {"' + "\\\\" * LONG),
    "string arguments": ("hermes", '<tool_call>{"name": "now", "arguments": "' + "ab" * LONG),
    "thought": ("hermes", "<think>" + "</thin" * LONG),
    "JSON answer": ("llama3", '{"type": "' + "ab" * LONG),
    "channels": ("harmony", "<|channel|>" * LONG),
    "names": ("mistral", "[TOOL_CALLS]name" * LONG),
    "keys": ("glm", "<tool_call>get_weather<arg_key>days</arg_key><arg_value>" + "</arg_v" * LONG),
    "pairs": (
        "glm",
        "<tool_call>get_weather" + "<arg_key>days</arg_key><arg_value>1</arg_value>" * LONG,
    ),
    "sections": ("kimi_k2", "<|tool_calls_section_begin|><|tool_call_begin|>functions." * LONG),
    "separators": ("deepseek_v3", "<\uff5ctool▁call▁begin\uff5c>" * LONG),
    "parameters": (
        "qwen3_coder",
        "<function=get_weather>" + "<parameter=days>\n1\n</parameter>" * LONG,
    ),
    "parameter": ("qwen3_coder", "<function=get_weather><parameter=days>" + "</param" * LONG),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_the_work_is_linear_in_the_text(name: str) -> None:
    """Counted in lines run: a text twice as long must not take much more than twice as many.

    What one line does is bounded too: no string that is searched is longer than a name.
    """
    tools, text = ADVERSARIAL[name]

    def work(size: int) -> int:
        reading = machine(tools, "harmony" if tools == "harmony" else "think")
        lines = 0

        def count(frame: FrameType, kind: str, value: Any) -> Any:
            nonlocal lines
            lines += kind == "line"
            return count

        held = 0
        before = sys.gettrace()
        sys.settrace(count)
        try:
            for start in range(0, size, 3):
                reading.feed(text[start : start + 3])
                held = max(held, len(reading._reader._text))
            reading.close()
        finally:
            sys.settrace(before)
        assert held < 600
        return lines

    once = work(3000)
    assert work(6000) < 2.5 * once + 500
    # And in one piece.
    whole = machine(tools, "harmony" if tools == "harmony" else "think")
    whole.feed(text)
    whole.close(True)


def test_whatever_the_arguments_are_they_arrive_whole() -> None:
    value = {"a": ["\\", '"', "}", {"b": None, "é": 1.5e-7}], "": "\n\u2028<tool_call>"}
    for dumped in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False)):
        reading = machine("hermes")
        text = f'<tool_call>{{"name": "now", "arguments": {dumped}}}</tool_call>'
        meaning = Meaning()
        for char in text:
            for event in reading.feed(char):
                meaning.add(event)
        assert json.loads(meaning.calls[0][1]) == value


def test_an_answer_inside_reasoning_has_no_content() -> None:
    reading = machine(None, "think", Opening.INSIDE)
    events = reading.feed("All thought") + reading.close(True)
    assert events == [ReasoningDelta("All thought", 11)]
