from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.form import AnswerForm
from sluice_gateway.output import (
    Event,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallStart,
)
from sluice_gateway.output.formats import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    Formats,
    Opening,
    detect,
)
from sluice_gateway.output.machine import OutputMachine
from sluice_gateway.output.spec import OutputSpec
from sluice_gateway.schema import CompletionRequest

from tests.gateway.output.formats.reading import TOOLS as OFFERED
from tests.gateway.output.formats.reading import Transcript
from tests.gateway.output.formats.transcripts import TRANSCRIPTS
from tests.gateway.output.test_machine import ids_of, score
from tests.gateway.text.samples import model, token_id

FORMATS = detect("", tools="hermes", reasoning="think")
TOOLS: dict[str, Any] = {"f": {"type": "object"}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "\u4f60 \u597d"}}\n</tool_call>'
TEXT = f"<think>\nna\u00efve \U0001f642?\n</think>\n\n\U0001f642 done\n{CALL}\n{CALL}"
END = token_id("byte_level", "<|im_end|>")
IDS = [*ids_of(TEXT), END]


def machine(names_tool: bool = False, **fields: Any) -> OutputMachine:
    request = CompletionRequest(model="demo", prompt="x", **fields)
    form = AnswerForm(formats=FORMATS, tools=TOOLS, names_tool=names_tool)
    return OutputSpec(request, model(), form).machine()


def run(one: OutputMachine, cuts: list[int], *, ids: list[int] = IDS) -> list[Event]:
    ends = sorted({min(cut, len(ids)) for cut in cuts} | {len(ids)})
    events: list[Event] = []
    for start, end in zip([0, *ends], ends, strict=False):
        events += one.feed(ids[start:end], [score(each) for each in ids[start:end]])
    return [*events, *one.close("stop")]


def folded(events: list[Event]) -> dict[str, Any]:
    found: dict[str, Any] = {"text": "", "thought": "", "calls": [], "ids": [], "scored": b""}
    for event in events[:-1]:
        assert not isinstance(event, Finished)
        found["ids"] += event.token_ids
        if isinstance(event, TextDelta):
            found["text"] += event.text
            found["scored"] += b"".join(entry.raw for entry in event.logprobs or [])
        elif isinstance(event, ReasoningDelta):
            found["thought"] += event.text
        elif isinstance(event, ToolCallStart):
            found["calls"].append([event.name, ""])
        elif isinstance(event, ToolArguments):
            found["calls"][event.index][1] += event.text
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, len(IDS)), max_size=12))
def test_an_answer_is_the_same_however_its_ids_come(cuts: list[int]) -> None:
    one = machine(return_token_ids=True)
    events = run(one, cuts)
    found = folded(events)
    assert found["thought"] == "na\u00efve \U0001f642?"
    assert found["text"] == "\U0001f642 done"
    assert found["calls"] == [["f", '{"a": "\u4f60 \u597d"}']] * 2
    assert found["ids"] == IDS
    assert found["scored"].decode() == found["text"]
    assert events[-1] == Finished("tool_calls")
    assert one.completion_tokens == len(IDS)


def test_token_by_token_the_tokens_of_reasoning_are_counted() -> None:
    one = machine()
    run(one, list(range(len(IDS))))
    thought = ids_of(TEXT.partition("</think>")[0])
    assert one.reasoning_tokens in range(len(thought) - 2, len(thought) + 1)


def test_a_named_tools_call_ends_with_stop() -> None:
    assert run(machine(names_tool=True), [])[-1] == Finished("stop")


def test_a_limit_ends_a_call_with_length() -> None:
    for size in range(len(IDS) - 1):
        one = machine()
        events = [*one.feed(IDS[:size]), *one.close("length")]
        assert events[-1] == Finished("length")


def test_a_stop_string_ends_the_answer_whatever_it_is_within() -> None:
    one = machine(stop=["done"])
    events = run(one, [])
    assert folded(events)["text"].strip() == "\U0001f642"
    assert events[-1] == Finished("stop", by_stop_string=True)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("stop", "calls", "reason"),
    [
        ("\u597d", [["f", '{"a": "\u4f60 ']], "stop"),  # within arguments: nobody can use them
        ('"}', [["f", '{"a": "\u4f60 \u597d']], "stop"),
        ("}\n", [["f", '{"a": "\u4f60 \u597d"}']], "tool_calls"),
        ("</tool_call>", [["f", '{"a": "\u4f60 \u597d"}']], "tool_calls"),
        ('"name"', [], "stop"),  # before the call has begun: its markup is no content
        ("arguments", [], "stop"),
    ],
)
def test_a_stop_string_within_a_call(
    stop: str, calls: list[list[str]], reason: Any, streamed: bool
) -> None:
    one = machine(stop=[stop])
    events = run(one, list(range(len(IDS))) if streamed else [])
    found = folded(events)
    assert found["calls"] == calls
    assert found["text"] == "\U0001f642 done"
    assert events[-1] == Finished(reason, by_stop_string=True)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([one for one in TRANSCRIPTS if one.text]), st.data(), st.booleans())
def test_a_stop_string_anywhere_in_any_format_ends_the_same_however_ids_come(
    transcript: Transcript, data: st.DataObject, truncated: bool
) -> None:
    text = transcript.text
    start = data.draw(st.integers(0, len(text) - 1))
    stop = text[start : start + data.draw(st.integers(1, 8))]
    ids = ids_of(text)
    ids = ids[: data.draw(st.integers(0, len(ids)))] if truncated else ids
    cuts = data.draw(st.lists(st.integers(0, len(ids)), max_size=6))
    formats = Formats(
        TOOL_FORMATS[transcript.tools] if transcript.tools else None,
        REASONING_FORMATS[transcript.thinks] if transcript.thinks else None,
    )
    form = AnswerForm(formats=formats, tools=OFFERED, opening=transcript.opening)
    request = CompletionRequest(model="demo", prompt="x", stop=[stop], return_token_ids=True)

    def ended(cuts: list[int]) -> tuple[dict[str, Any], Event, int]:
        one = OutputSpec(request, model(), form).machine()
        events = run(one, cuts, ids=ids)
        return folded(events), events[-1], one.completion_tokens

    whole = ended([])
    assert ended(list(range(len(ids)))) == ended(cuts) == whole
    found, last, _ = whole
    if last == Finished("tool_calls", by_stop_string=True):
        json.loads(found["calls"][-1][1])


def test_a_stop_string_in_the_second_call_leaves_the_first() -> None:
    one = machine(stop=["</tool_call>\n<tool_call>\n{"])
    events = run(one, [])
    assert folded(events)["calls"] == [["f", '{"a": "\u4f60 \u597d"}']]
    assert events[-1] == Finished("tool_calls", by_stop_string=True)


def test_reasoning_that_the_prompt_has_opened_needs_no_mark() -> None:
    form = AnswerForm(formats=FORMATS, opening=Opening.INSIDE)
    one = OutputSpec(CompletionRequest(prompt="x"), model(), form).machine()
    found = folded(run(one, [], ids=ids_of("hm</think>yes")))
    assert (found["thought"], found["text"]) == ("hm", "yes")


def test_marks_that_are_special_tokens_are_seen_and_others_are_not() -> None:
    one = OutputSpec(
        CompletionRequest(prompt="x", ignore_eos=True),
        model("byte_level", "<tool_call>"),
        AnswerForm(formats=FORMATS, tools=TOOLS),
    ).machine()
    assert folded(run(one, [], ids=[*ids_of("a"), END, *ids_of("b")]))["text"] == "ab"
    shown = model("byte_level").tokenizer.detokenizer(shown=frozenset({END}))
    assert shown.feed([END]) == "<|im_end|>"
    assert shown.feed([token_id("byte_level", "<|im_start|>")]) == ""
