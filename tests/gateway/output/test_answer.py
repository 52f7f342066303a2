from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion
from sluice_gateway.answer import ChatAnswer, CompletionAnswer
from sluice_gateway.chunks import ChatChunks, CompletionChunks
from sluice_gateway.form import PLAIN
from sluice_gateway.output import Event, Finished, TextDelta
from sluice_gateway.output.spec import OutputSpec
from sluice_gateway.schema import CompletionRequest
from sluice_gateway.usage import Usage

from tests.gateway.output.strict_types import WholeChat, WholeCompletion
from tests.gateway.text.samples import model, raw_tokenizer

USAGE = Usage(3, 4)
IDS = st.lists(st.integers(0, raw_tokenizer("byte_level").get_vocab_size() - 1), max_size=20)
HEAD: tuple[Any, ...] = ("chatcmpl-1", 1700000000, "demo", "fp")


def events_of(ids: list[int]) -> list[Event]:
    request = CompletionRequest(model="demo", prompt="x", stop=["e", "th"], return_token_ids=True)
    machine = OutputSpec(request, model(), PLAIN).machine()
    events = [event for one in ids for event in machine.feed([one], [(-1.0, [(one, -1.0)])])]
    return [*events, *machine.close("length")]


def frames(chunks: ChatChunks | CompletionChunks, index: int, events: list[Event]) -> list[Any]:
    found = [
        chunks.delta(index, event)
        if isinstance(event, TextDelta)
        else chunks.finish(index, event.reason)
        for event in events
    ]
    return [json.loads(frame[6:])["choices"][0] for frame in found]


def folded(answer: ChatAnswer | CompletionAnswer, streams: list[list[Event]]) -> dict[str, Any]:
    for index, events in reversed(list(enumerate(streams))):
        for event in events:
            answer.add(index, event)
    found: dict[str, Any] = json.loads(answer.body(USAGE))
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=3))
def test_a_whole_chat_answer_is_its_stream_put_together(streams: list[list[int]]) -> None:
    events = [events_of(ids) for ids in streams]
    size = len(events)
    answer = ChatAnswer(*HEAD, choices=size, logprobs=True, token_ids=True)
    whole = folded(answer, events)
    WholeChat.model_validate(whole)
    ChatCompletion.model_validate(whole, strict=True)
    chunks = ChatChunks(*HEAD, choices=size, token_ids=True)
    for index, choice in enumerate(whole["choices"]):
        parts = frames(chunks, index, events[index])
        assert choice["index"] == index
        texts = [part["delta"].get("content", "") for part in parts]
        assert choice["message"]["content"] == "".join(texts)
        assert choice["finish_reason"] == parts[-1]["finish_reason"]
        entries = [one for part in parts for one in (part["logprobs"] or {}).get("content", [])]
        assert choice["logprobs"]["content"] == entries
        assert choice["token_ids"] == [one for part in parts for one in part.get("token_ids", [])]


@settings(max_examples=100, deadline=None)
@given(st.lists(IDS, min_size=1, max_size=3))
def test_a_whole_completion_is_its_stream_put_together(streams: list[list[int]]) -> None:
    events = [events_of(ids) for ids in streams]
    size = len(events)
    whole = folded(CompletionAnswer(*HEAD, choices=size, logprobs=True), events)
    WholeCompletion.model_validate(whole)
    Completion.model_validate(whole, strict=True)
    chunks = CompletionChunks(*HEAD, choices=size)
    for index, choice in enumerate(whole["choices"]):
        parts = frames(chunks, index, events[index])
        assert choice["text"] == "".join(part["text"] for part in parts)
        scores = [part["logprobs"] for part in parts if part["logprobs"]]
        for key, value in choice["logprobs"].items():
            assert value == [one for score in scores for one in score[key]]


def test_a_message_has_all_its_keys_and_no_tool_calls() -> None:
    whole = folded(ChatAnswer(*HEAD), [[TextDelta("hi"), Finished("stop")]])
    assert whole["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "hi", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert "service_tier" not in whole
    assert whole["usage"]["total_tokens"] == 7


def test_echo_puts_the_prompt_first() -> None:
    answer = CompletionAnswer(*HEAD, choices=2, prompt_ids=[[1], [2, 3]], token_ids=True)
    answer.echo(0, "one ")
    answer.echo(1, "two ")
    whole = folded(answer, [[TextDelta("a", [4]), Finished("stop")], [Finished("length")]])
    assert [choice["text"] for choice in whole["choices"]] == ["one a", "two "]
    assert [choice["prompt_token_ids"] for choice in whole["choices"]] == [[1], [2, 3]]
    assert [choice["token_ids"] for choice in whole["choices"]] == [[4], []]


def test_the_tier_and_the_prompts_ids_are_given_when_asked_for() -> None:
    answer = ChatAnswer(*HEAD, service_tier="default", prompt_ids=[[1, 2]], token_ids=True)
    whole = folded(answer, [[Finished("stop")]])
    WholeChat.model_validate(whole)
    assert whole["service_tier"] == "default"
    assert whole["prompt_token_ids"] == [1, 2]


def test_an_answer_with_an_open_choice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="choice 0 has not finished"):
        ChatAnswer(*HEAD).body(USAGE)
