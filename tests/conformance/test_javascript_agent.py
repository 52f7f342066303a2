"""Agents with the official JavaScript client: loops by hand, its own loop, its events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.node import run
from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")

MODES = pytest.mark.parametrize("mode", ["whole", "streamed"])
WEATHER = ("get_weather", {"city": "Paris"})
SUM = ("calculator", {"expression": "12 * 7"})
REPLY = {"city": "Paris", "temperature": 21, "condition": "sunny"}


@pytest.fixture(scope="module")
def result(front: Gateway) -> dict[str, Any]:
    return run("agent.mjs", front)


def calls_of(message: dict[str, Any]) -> list[tuple[str, Any]]:
    functions = [call["function"] for call in message.get("tool_calls", ())]
    return [(each["name"], json.loads(each["arguments"])) for each in functions]


@MODES
@pytest.mark.parametrize(("loop", "call"), [("weather", WEATHER), ("sum", SUM)])
def test_the_model_calls_a_tool_and_answers_from_its_result(
    result: dict[str, Any], mode: str, loop: str, call: tuple[str, Any]
) -> None:
    asked, answered = (result["loops"][mode][loop][turn] for turn in ("asked", "answered"))
    assert calls_of(asked["message"]) == [call]
    assert asked["finish"] == "tool_calls"
    assert not asked["message"]["content"]
    assert not calls_of(answered["message"])
    assert answered["finish"] == "stop"
    assert ("21" if loop == "weather" else "84") in answered["message"]["content"]


@MODES
@pytest.mark.parametrize(
    ("choice", "call", "finish"), [("required", WEATHER, "tool_calls"), ("named", SUM, "stop")]
)
def test_a_call_that_was_asked_for_comes(
    result: dict[str, Any], mode: str, choice: str, call: tuple[str, Any], finish: str
) -> None:
    asked = result["loops"][mode][choice]["asked"]
    assert calls_of(asked["message"]) == [call]
    assert asked["finish"] == finish


@MODES
def test_tool_choice_none_has_no_call(result: dict[str, Any], mode: str) -> None:
    none = result["loops"][mode]["none"]
    assert not calls_of(none["message"])
    assert none["finish"] == "stop"
    assert none["message"]["content"]


def test_streamed_and_whole_loops_say_and_count_the_same(result: dict[str, Any]) -> None:
    def said(turn: dict[str, Any]) -> tuple[Any, ...]:
        message, usage = turn["message"], turn["usage"]
        counts = [usage[kind] for kind in ("prompt_tokens", "completion_tokens", "total_tokens")]
        return message["content"] or None, calls_of(message), message["role"], counts

    whole, streamed = result["loops"]["whole"], result["loops"]["streamed"]
    for loop in ("weather", "sum", "required", "named"):
        for turn in ("asked", "answered"):
            assert said(whole[loop][turn]) == said(streamed[loop][turn])
    assert said(whole["none"]) == said(streamed["none"])


@pytest.mark.parametrize(
    ("runner", "call", "reply"),
    [
        ("whole", WEATHER, REPLY),
        ("streamed", WEATHER, REPLY),
        ("sum", SUM, 84),
        ("typed", WEATHER, REPLY),
        ("typedStreamed", WEATHER, REPLY),
    ],
)
def test_the_clients_own_loop_runs_to_its_end(
    result: dict[str, Any], runner: str, call: tuple[str, Any], reply: Any
) -> None:
    found = result["runners"][runner]
    assert [(each["name"], json.loads(each["arguments"])) for each in found["called"]] == [call]
    assert [json.loads(each) for each in found["results"]] == [reply]
    assert found["roles"] == ["user", "assistant", "tool", "assistant"]
    assert found["answer"]


def test_the_events_of_a_stream_tell_of_a_call(result: dict[str, Any]) -> None:
    found = result["called"]
    assert found["contents"] == []
    assert found["finals"] == 1
    deltas = found["deltas"]
    (done,) = found["done"]
    assert {(each["name"], each["index"]) for each in deltas} == {("get_weather", 0)}
    assert "".join(each["arguments_delta"] for each in deltas) == done["arguments"]
    assert len(deltas) > 2
    assert done["parsed_arguments"] == {"city": "Paris"}
    assert found["choice"]["finish_reason"] == "tool_calls"
    (call,) = found["choice"]["message"]["tool_calls"]
    assert call["function"]["parsed_arguments"] == {"city": "Paris"}


def test_the_events_of_a_stream_tell_of_content(result: dict[str, Any]) -> None:
    found = result["said"]
    assert found["deltas"] == found["done"] == []
    assert len(found["contents"]) > 2
    assert "".join(found["contents"]) == found["choice"]["message"]["content"]
    assert found["choice"]["message"]["content"].startswith("Hello")
