"""LangChain's ChatOpenAI with tools and structured answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.conformance.langchain_client import chat_openai
from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")
WEATHER = "What is the weather in Paris?"
SUM = "What is 12 * 7?"


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return json.dumps({"city": city, "temperature": 21, "condition": "sunny"})


@tool
def calculator(expression: str) -> str:
    """Computes an arithmetic expression."""
    left, right = expression.split("*")
    return str(int(left) * int(right))


TOOLS: dict[str, BaseTool] = {each.name: each for each in (get_weather, calculator)}


class City(BaseModel):
    """A city that the user asks about."""

    city: str


@pytest.fixture
async def chat(front: Gateway) -> AsyncIterator[ChatOpenAI]:
    async with chat_openai(front, max_tokens=300) as client:
        yield client


def asked(runnable: Runnable[Any, Any], messages: list[BaseMessage], streaming: bool) -> AIMessage:
    if not streaming:
        return runnable.invoke(messages)
    return reduce(add, runnable.stream(messages, stream_usage=True))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("question", "name", "arguments", "said"),
    [
        (WEATHER, "get_weather", {"city": "Paris"}, "21"),
        (SUM, "calculator", {"expression": "12 * 7"}, "84"),
    ],
)
def test_the_model_calls_a_tool_and_answers_from_its_result(
    chat: ChatOpenAI,
    question: str,
    name: str,
    arguments: dict[str, str],
    said: str,
    streaming: bool,
) -> None:
    bound = chat.bind_tools(list(TOOLS.values()))
    messages: list[BaseMessage] = [HumanMessage(question)]
    first = asked(bound, messages, streaming)
    (call,) = first.tool_calls
    assert (call["name"], call["args"]) == (name, arguments)
    assert not first.invalid_tool_calls
    assert first.content == ""
    assert first.response_metadata["finish_reason"] == "tool_calls"
    reply = TOOLS[name].invoke(call)
    assert isinstance(reply, ToolMessage)
    answer = asked(bound, [*messages, first, reply], streaming)
    assert not answer.tool_calls
    assert said in answer.content
    assert answer.response_metadata["finish_reason"] == "stop"


def test_a_streamed_call_comes_in_chunks_and_counts_the_same(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools(list(TOOLS.values()))
    whole = bound.invoke(WEATHER)
    pieces = list(bound.stream(WEATHER, stream_usage=True))
    assert all(isinstance(piece, AIMessageChunk) for piece in pieces)
    first, *later = [chunk for piece in pieces for chunk in piece.tool_call_chunks]
    assert (first["name"], first["args"], first["index"]) == ("get_weather", "", 0)
    assert first["id"].startswith("call_")
    assert len(later) > 2
    for chunk in later:
        assert (chunk["name"], chunk["id"], chunk["index"]) == (None, None, 0)
    arguments = json.loads("".join(chunk["args"] for chunk in later))
    assert arguments == whole.tool_calls[0]["args"]
    (usage,) = [piece.usage_metadata for piece in pieces if piece.usage_metadata]
    for count in ("input_tokens", "output_tokens", "total_tokens"):
        assert usage[count] == whole.usage_metadata[count]
    assert usage["output_token_details"] == {"reasoning": 0}


@pytest.mark.parametrize("choice", ["any", "calculator"])
def test_a_call_that_was_asked_for_comes(chat: ChatOpenAI, choice: str) -> None:
    bound = chat.bind_tools(list(TOOLS.values()), tool_choice=choice, parallel_tool_calls=False)
    (call,) = bound.invoke(SUM).tool_calls
    assert (call["name"], call["args"]) == ("calculator", {"expression": "12 * 7"})


def test_strict_tools_are_taken(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools(list(TOOLS.values()), strict=True)
    assert [call["name"] for call in bound.invoke(WEATHER).tool_calls] == ["get_weather"]


# Where the client puts the parsed answer into a field that its own type says is none.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_is_parsed_as_a_pydantic_model(chat: ChatOpenAI, method: Any) -> None:
    parsing = chat.with_structured_output(City, method=method)
    whole = parsing.invoke(WEATHER)
    assert isinstance(whole, City)
    assert "Paris" in whole.city
    assert list(parsing.stream(WEATHER))[-1] == whole
    raw = chat.with_structured_output(City, method=method, include_raw=True).invoke(WEATHER)
    assert raw["parsing_error"] is None
    assert raw["parsed"] == whole
    assert raw["raw"].usage_metadata["output_tokens"] > 3


async def test_an_asynchronous_stream_of_a_call(chat: ChatOpenAI) -> None:
    bound = chat.bind_tools(list(TOOLS.values()))
    pieces = [piece async for piece in bound.astream(WEATHER)]
    whole = reduce(add, pieces)
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Paris"}]
