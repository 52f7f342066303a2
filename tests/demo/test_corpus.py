"""What the demo model learns from: calls that fit their tools, objects that fit their schemas."""

from __future__ import annotations

import json
import random

import jsonschema
import pytest

from demo.conversation import Conversation
from demo.corpus import conversation, structured, tools
from demo.corpus.records import record
from demo.heldout import HELD_OUT
from demo.heldout_records import RECORDS
from demo.heldout_tools import ANSWERS, CALLS

#: What people say everywhere, with tools or without: no secret, and no measure of tools either.
COMMON = {"Hello there!", "Thanks a lot!", "Who are you?", "Tell me a joke", "What is Sluice?"}
COMMON |= {"What can you do?", "What is the weather in Paris?", "Hi, how are you?"}


def with_tools(count: int) -> list[Conversation]:
    rng = random.Random(5)
    return [tools.sample(rng, None) for _ in range(count)]


def test_every_call_fits_the_schema_of_its_tool() -> None:
    calls = 0
    for one in with_tools(1500):
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in one.tools}
        assert len(schemas) == len(one.tools)
        for message in one.messages:
            for call in message.tool_calls:
                closed = {"additionalProperties": False, **schemas[call.name]}
                jsonschema.validate(call.arguments, closed)
                calls += 1
    assert calls > 1500


def test_arguments_are_in_the_order_of_the_schema() -> None:
    """A server enforces that order: the model should know no other."""
    for one in with_tools(500):
        orders = {
            tool["function"]["name"]: list(tool["function"]["parameters"]["properties"])
            for tool in one.tools
        }
        for message in one.messages:
            for call in message.tool_calls:
                order = [key for key in orders[call.name] if key in call.arguments]
                assert list(call.arguments) == order


def test_every_call_gets_its_result_before_the_answer() -> None:
    for one in with_tools(500):
        open_calls = 0
        for message in one.messages:
            if message.role == "tool":
                open_calls -= 1
            else:
                assert open_calls == 0
                open_calls = len(message.tool_calls)
        assert open_calls == 0
        assert one.messages[-1].role == "assistant"


def test_a_record_fits_its_schemas() -> None:
    rng = random.Random(6)
    for _ in range(3000):
        made = record(rng)
        assert made.values
        assert list(made.values) == list(made.schemas)
        for key, value in made.values.items():
            jsonschema.validate(value, made.schemas[key])


def test_values_of_a_record_stand_in_its_text() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        made = record(rng)
        for value in made.values.values():
            if isinstance(value, str):
                assert value.lower() in made.text.lower()


def test_an_answer_in_json_is_json() -> None:
    rng = random.Random(8)
    for _ in range(2000):
        _, (_, answer) = structured.sample(rng)
        assert isinstance(json.loads(answer.content), dict)


def test_the_requests_of_the_evaluation_are_not_in_the_corpus() -> None:
    cases = [case.conversation.messages[-1].content for case in (*CALLS, *RECORDS)]
    held_out = {prompt for prompt, _ in HELD_OUT} | set(cases) - COMMON
    rng = random.Random(9)
    for _ in range(6000):
        for message in conversation(rng).messages:
            assert message.role != "user" or message.content not in held_out


@pytest.mark.parametrize("case", [*CALLS, *ANSWERS], ids=range(len(CALLS) + len(ANSWERS)))
def test_the_cases_of_the_evaluation_fit_their_own_tools(case: object) -> None:
    held: Conversation = case.conversation  # type: ignore[attr-defined]
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in held.tools}
    calls = [call for message in held.messages for call in message.tool_calls]
    for call in (*calls, *getattr(case, "calls", ())):
        jsonschema.validate(call.arguments, schemas[call.name])


@pytest.mark.parametrize("case", RECORDS, ids=lambda case: case.conversation.messages[-1].content)
def test_the_objects_of_the_evaluation_fit_their_own_schemas(case: object) -> None:
    jsonschema.validate(case.record, case.schema)  # type: ignore[attr-defined]
