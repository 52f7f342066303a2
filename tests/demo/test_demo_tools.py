"""The committed demo model with tools and with schemas: what must hold of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from demo.chat import DemoChat
from demo.conversation import Conversation, Json, Message
from demo.evaluate_tools import ask_answers, ask_calls, ask_records, calls_in
from demo.filling import Filler
from demo.heldout_tools import CALCULATOR, WEATHER

MODEL = Path(__file__).parents[2] / "services/worker/sluice_worker/demo_model"


@pytest.fixture(scope="module")
def chat() -> DemoChat:
    torch.set_num_threads(1)
    return DemoChat(MODEL)


@pytest.mark.parametrize(
    ("question", "call"),
    [
        (
            "What is the weather in London?",
            {"name": "get_weather", "arguments": {"city": "London"}},
        ),
        ("What is 6 * 7?", {"name": "calculator", "arguments": {"expression": "6 * 7"}}),
        ("What is 12 times 7?", {"name": "calculator", "arguments": {"expression": "12 * 7"}}),
    ],
)
@pytest.mark.parametrize("system", ["", "You are a helpful assistant."])
@pytest.mark.parametrize("tools", [(WEATHER, CALCULATOR), (CALCULATOR, WEATHER)], ids=["w", "c"])
def test_a_question_gets_its_call(
    chat: DemoChat, tools: tuple[Json, ...], system: str, question: str, call: Json
) -> None:
    if question == "What is 6 * 7?":
        pytest.xfail("it calls a tool that is not there; demo/README.md says so")
    lead = (Message("system", system),) if system else ()
    asked = Conversation((*lead, Message("user", question)), tools)
    assert calls_in(chat.replies([asked])[0].text) == [call]


def test_most_of_the_calls_written_by_hand_are_right(chat: DemoChat) -> None:
    assert rights(ask_calls(chat, show=False)) >= 31


def test_most_answers_tell_what_the_tools_said(chat: DemoChat) -> None:
    assert rights(ask_answers(chat, show=False)) >= 12


def test_most_values_of_objects_are_those_of_the_text(chat: DemoChat) -> None:
    objects, values = ask_records(chat, show=False)
    assert rights(objects) >= 10
    assert rights(values) >= 37


def rights(line: str) -> int:
    """How many a line of the evaluation says were right."""
    return int(line.partition(": ")[2].partition("/")[0])


@pytest.mark.parametrize("question", ["Hello!", "Thank you!", "What is Sluice?", "Tell me a joke"])
def test_what_needs_no_tool_is_answered_in_words(chat: DemoChat, question: str) -> None:
    asked = Conversation((Message("user", question),), (WEATHER, CALCULATOR))
    reply = chat.replies([asked])[0]
    assert reply.ended
    assert "<tool_call>" not in reply.text
    assert reply.text == chat.ask(question).text


_TEXT = {"type": "string"}
SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"a": _TEXT}, "required": ["a"]},
    {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "flag": {"type": "boolean"}},
        "required": ["n", "flag"],
    },
    {
        "type": "object",
        "properties": {
            "mood": {"type": "string", "enum": ["good", "bad"]},
            "inner": {
                "type": "object",
                "properties": {"known": {"type": "boolean"}},
                "required": ["known"],
            },
        },
        "required": ["mood", "inner"],
    },
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_is_filled_follows_its_schema(chat: DemoChat, schema: Json) -> None:
    asked = Conversation((Message("user", "Anna and Ben are here."),))
    jsonschema.validate(Filler(chat).fill(asked, schema), schema)


def test_calls_are_read_from_an_answer() -> None:
    one = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert calls_in(f"{one}\n{one}") == [{"name": "f", "arguments": {}}] * 2
    assert calls_in("<tool_call>\n{no json\n</tool_call>") == [{}]
    assert calls_in("no call") == []
