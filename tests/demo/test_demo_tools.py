"""The committed demo model with tools and with schemas: what must hold of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from demo.chat import DemoChat
from demo.conversation import Conversation, Json, Message
from demo.evaluate_tools import calls_in
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
def test_a_question_gets_its_call(chat: DemoChat, system: str, question: str, call: Json) -> None:
    lead = (Message("system", system),) if system else ()
    for tools in ((WEATHER, CALCULATOR), (CALCULATOR, WEATHER)):
        asked = Conversation((*lead, Message("user", question)), tools)
        assert calls_in(chat.replies([asked])[0].text) == [call]


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
