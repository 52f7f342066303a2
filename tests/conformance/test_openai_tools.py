"""Tools beside other fields, with the official Python client: choices, log-probabilities, usage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")
PARIS: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
HELLO: list[Any] = [{"role": "user", "content": "Say hello"}]
CALL = ("get_weather", {"city": "Paris"})


class GetWeather(BaseModel):
    """The weather in a city."""

    city: str


def described(name: str, description: str, argument: str) -> dict[str, Any]:
    properties = {argument: {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": [argument]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS: Any = [
    described("get_weather", "The weather in a city.", "city"),
    described("calculator", "Computes an arithmetic expression.", "expression"),
]


@pytest.fixture
def client(front: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def asked(client: OpenAI, streaming: bool, **fields: Any) -> Any:
    """The answer, put together by the client if it is streamed."""
    fields = {"model": "sluice-demo", "temperature": 0, "max_tokens": 60, **fields}
    if not streaming:
        return client.chat.completions.create(**fields)
    with client.chat.completions.stream(**fields) as events:
        return events.get_final_completion()


def calls_of(choice: Any) -> list[tuple[str, Any]]:
    found = [call.function for call in choice.message.tool_calls or ()]
    return [(function.name, json.loads(function.arguments)) for function in found]


STREAMING = pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])


@STREAMING
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_each_choice_has_calls_of_its_own(client: OpenAI, streaming: bool, choice: str) -> None:
    answer = asked(client, streaming, messages=PARIS, tools=TOOLS, tool_choice=choice, n=3)
    assert [one.index for one in answer.choices] == [0, 1, 2]
    assert [calls_of(one) for one in answer.choices] == [[CALL]] * 3
    assert {one.finish_reason for one in answer.choices} == {"tool_calls"}
    ids = [call.id for one in answer.choices for call in one.message.tool_calls]
    assert len(set(ids)) == 3


@STREAMING
def test_choices_with_log_probabilities(client: OpenAI, streaming: bool) -> None:
    fields: dict[str, Any] = {"messages": HELLO, "n": 2, "logprobs": True, "top_logprobs": 2}
    answer = asked(client, streaming, **fields)
    one = asked(client, False, **{**fields, "n": 1}).choices[0]
    for choice in answer.choices:
        assert choice.message.content == one.message.content
        tokens = choice.logprobs.content
        assert [each.token for each in tokens] == [each.token for each in one.logprobs.content]
        assert all(len(each.top_logprobs) == 2 for each in tokens)


@STREAMING
def test_log_probabilities_beside_tools_are_those_of_content(
    client: OpenAI, streaming: bool
) -> None:
    fields: dict[str, Any] = {"tools": TOOLS, "logprobs": True, "n": 2}
    called = asked(client, streaming, messages=PARIS, **fields)
    assert [calls_of(one) for one in called.choices] == [[CALL]] * 2
    assert not any(one.logprobs and one.logprobs.content for one in called.choices)
    said = asked(client, streaming, messages=HELLO, **fields)
    for choice in said.choices:
        raw = b"".join(bytes(each.bytes) for each in choice.logprobs.content)
        assert raw.decode().startswith(choice.message.content)


@STREAMING
def test_no_calls_in_parallel(client: OpenAI, streaming: bool) -> None:
    fields: dict[str, Any] = {"messages": PARIS, "tools": TOOLS, "tool_choice": "required"}
    answer = asked(client, streaming, parallel_tool_calls=False, **fields)
    assert calls_of(answer.choices[0]) == [CALL]


def test_usage_beside_tools_is_the_same_streamed_and_whole(client: OpenAI) -> None:
    fields: dict[str, Any] = {"messages": PARIS, "tools": TOOLS, "n": 2}
    whole = asked(client, False, **fields).usage
    streamed = asked(client, True, stream_options={"include_usage": True}, **fields).usage
    assert streamed.completion_tokens == whole.completion_tokens
    assert streamed.prompt_tokens == whole.prompt_tokens
    assert whole.completion_tokens > 20


@STREAMING
def test_a_stop_string_within_arguments_is_no_call_to_carry_out(
    client: OpenAI, streaming: bool
) -> None:
    answer = asked(client, streaming, messages=PARIS, tools=TOOLS, stop=["ris"])
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    (call,) = choice.message.tool_calls
    assert call.function.arguments == '{"city": "Pa'


def test_a_limit_within_a_call_ends_with_length_and_the_clients_own_error(client: OpenAI) -> None:
    fields: dict[str, Any] = {"messages": PARIS, "tools": TOOLS, "max_tokens": 15}
    assert asked(client, False, **fields).choices[0].finish_reason == "length"
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    with pytest.raises(openai.LengthFinishReasonError):
        asked(client, True, **{**fields, "tools": [tool]})


def test_arguments_are_parsed_as_the_pydantic_model_of_the_tool(client: OpenAI) -> None:
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    fields: dict[str, Any] = {"messages": PARIS, "tools": [tool], "tool_choice": "required"}
    answer = client.chat.completions.parse(model="sluice-demo", temperature=0, **fields)
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.function.parsed_arguments == GetWeather(city="Paris")


def test_streamed_completions_of_several_prompts(client: OpenAI) -> None:
    fields: dict[str, Any] = {"prompt": ["Hello", "What is"], "n": 2, "logprobs": 1}
    fields |= {"model": "sluice-demo", "temperature": 0, "max_tokens": 6}
    whole = client.completions.create(**fields)
    texts, tokens = [""] * 4, [0] * 4
    for chunk in client.completions.create(stream=True, **fields):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            tokens[choice.index] += len(choice.logprobs.tokens) if choice.logprobs else 0
    assert texts == [choice.text for choice in whole.choices]
    assert tokens == [len(choice.logprobs.tokens) for choice in whole.choices if choice.logprobs]
