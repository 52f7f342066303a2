"""Agents and forms with the official Python client: the demo model does what is asked of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")
MODEL = "sluice-demo"
TURNS = 4


def function(name: str, about: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A tool whose arguments are all required."""
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
    if more.get("strict"):
        parameters["additionalProperties"] = False
    named = {"name": name, "description": about, "parameters": parameters, **more}
    return {"type": "function", "function": named}


TEXT = {"type": "string"}
WEATHER = function("get_weather", "Get the weather for a city", {"city": TEXT})
CALCULATOR = function("calculator", "Evaluate an arithmetic expression", {"expression": TEXT})
STRICT = function(
    "get_weather",
    "Get current temperature for a given location.",
    {"location": {**TEXT, "description": "City and country e.g. Bogotá, Colombia"}},
    strict=True,
)
DEGREES = {"Paris": 18, "Rome": 21, "Nairobi": 24}
SUMS = {"12 * 7": 84, "23 * 19": 437, "6 * 7": 42}


def get_weather(city: str) -> str:
    return json.dumps({"temperature": DEGREES[city], "condition": "sunny"})


def calculator(expression: str) -> str:
    return str(SUMS[expression])


FUNCTIONS: dict[str, Callable[..., str]] = {"get_weather": get_weather, "calculator": calculator}


@pytest.fixture
def client(front: Gateway) -> OpenAI:
    return OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0)


def turn(client: OpenAI, messages: list[Any], *, streaming: bool, **fields: Any) -> Any:
    """One answer of the model, whole or put together from a stream by the client."""
    asked = {"model": MODEL, "temperature": 0, "max_tokens": 120, "messages": messages, **fields}
    if not streaming:
        return client.chat.completions.create(**asked).choices[0]
    with client.chat.completions.stream(**asked) as events:
        return events.get_final_completion().choices[0]


def agent(
    client: OpenAI, messages: list[Any], tools: list[Any], *, streaming: bool
) -> tuple[list[str], str]:
    """Go on until the model answers in words: the results that it got, and the answer."""
    results: list[str] = []
    for _ in range(TURNS):
        choice = turn(client, messages, streaming=streaming, tools=tools)
        messages.append(choice.message.to_dict(mode="json"))
        if choice.finish_reason != "tool_calls":
            return results, choice.message.content
        for call in choice.message.tool_calls:
            arguments = json.loads(call.function.arguments)
            result = FUNCTIONS[call.function.name](**arguments)
            results.append(result)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    raise AssertionError(f"no answer within {TURNS} turns: {messages}")


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("question", "called", "said"),
    [
        ("What is the weather in Paris?", 1, ["18", "Paris"]),
        ("How is the weather in Nairobi today?", 1, ["24", "Nairobi"]),
        ("What is 12 times 7?", 1, ["84"]),
        ("What is 23 * 19?", 1, ["437"]),
        ("Hello!", 0, ["Hello"]),
        ("What is Sluice?", 0, ["OpenAI API"]),
    ],
)
def test_an_agent_calls_what_fits_and_answers_from_the_results(
    client: OpenAI, question: str, called: int, said: list[str], streaming: bool
) -> None:
    tools = [WEATHER, CALCULATOR]
    results, answer = agent(client, [user(question)], tools, streaming=streaming)
    assert len(results) == called
    for part in said:
        assert part in answer, answer


def test_a_conversation_goes_on_after_a_call(client: OpenAI) -> None:
    messages = [user("What is the weather in Paris?")]
    tools = [WEATHER, CALCULATOR]
    agent(client, messages, tools, streaming=False)
    for question, said in (("And in Rome?", "21"), ("What is 6 * 7?", "42")):
        messages.append(user(question))
        results, answer = agent(client, messages, tools, streaming=False)
        assert len(results) == 1
        assert said in answer
    messages.append(user("Thank you!"))
    assert agent(client, messages, tools, streaming=False)[0] == []


def test_arguments_follow_the_tools_own_schema(client: OpenAI) -> None:
    asked = [user("What is the weather in Madrid?")]
    (call,) = turn(client, asked, streaming=False, tools=[STRICT]).message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"location": "Madrid"}


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "tool_choice", ["required", {"type": "function", "function": {"name": "get_weather"}}]
)
def test_a_call_that_must_be_made_has_the_right_argument(
    client: OpenAI, tool_choice: Any, streaming: bool
) -> None:
    fields = {"tools": [WEATHER, CALCULATOR], "tool_choice": tool_choice}
    asked = [user("What is the weather in Rome?")]
    (call,) = turn(client, asked, streaming=streaming, **fields).message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Rome"}


def test_a_tool_made_of_a_pydantic_model_is_parsed(client: OpenAI) -> None:
    class GetWeather(BaseModel):
        """Get the weather for a city."""

        city: str

    found = client.chat.completions.parse(
        model=MODEL,
        temperature=0,
        messages=[user("What is the weather in Tokyo?")],
        tools=[openai.pydantic_function_tool(GetWeather)],
    )
    (call,) = found.choices[0].message.tool_calls
    assert call.function.parsed_arguments == GetWeather(city="Tokyo")


class Person(BaseModel):
    name: str
    age: int


class Mood(StrEnum):
    POSITIVE = "positive"
    NEGATIVE = "negative"


class Review(BaseModel):
    sentiment: Mood


FORMS = [
    ("", "Anna is 23 years old.", Person(name="Anna", age=23)),
    ("Classify the sentiment.", "I love this!", Review(sentiment=Mood.POSITIVE)),
    ("Classify the sentiment.", "This is terrible.", Review(sentiment=Mood.NEGATIVE)),
]


@pytest.mark.parametrize(("system", "text", "wanted"), FORMS, ids=lambda value: str(value)[:20])
def test_a_pydantic_model_is_filled_from_the_text(
    client: OpenAI, system: str, text: str, wanted: BaseModel
) -> None:
    lead = [{"role": "system", "content": system}] if system else []
    found = client.chat.completions.parse(
        model=MODEL, temperature=0, messages=[*lead, user(text)], response_format=type(wanted)
    )
    assert found.choices[0].message.parsed == wanted


def test_a_streamed_form_is_the_same(client: OpenAI) -> None:
    _, text, wanted = FORMS[0]
    choice = turn(client, [user(text)], streaming=True, response_format=Person)
    assert choice.message.parsed == wanted


def test_a_json_object_has_the_keys_that_the_text_names(client: OpenAI) -> None:
    asked = [user('What is the capital of France? Answer with JSON that has the key "capital".')]
    choice = turn(client, asked, streaming=False, response_format={"type": "json_object"})
    assert json.loads(choice.message.content) == {"capital": "Paris"}
