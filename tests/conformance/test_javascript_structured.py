"""Structured answers with the official JavaScript client and zod."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.node import run
from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")


@pytest.fixture(scope="module")
def result(front: Gateway) -> dict[str, Any]:
    return run("structured.mjs", front)


def test_an_answer_is_parsed_as_its_zod_schema(result: dict[str, Any]) -> None:
    message = result["whole"]
    assert message["parsed"] == json.loads(message["content"])
    assert isinstance(message["parsed"]["yes"], bool)
    assert message["parsed"]["mood"] in {"glad", "sad"}


def test_a_plain_schema_is_enforced_as_well(result: dict[str, Any]) -> None:
    assert set(json.loads(result["plain"]["content"])) == {"yes", "mood", "count"}


def test_a_streamed_answer_is_parsed_on_the_way(result: dict[str, Any]) -> None:
    streamed = result["streamed"]
    assert streamed["message"]["parsed"] == result["whole"]["parsed"]
    assert streamed["snapshots"][0] in ({}, None)
    assert streamed["snapshots"][-1] == result["whole"]["parsed"]
    assert [each["parsed"] for each in streamed["done"]] == [result["whole"]["parsed"]]


def test_arguments_of_a_call_are_parsed_as_their_zod_schema(result: dict[str, Any]) -> None:
    (call,) = result["called"]["message"]["tool_calls"]
    assert call["function"]["parsed_arguments"] == {"city": "Paris"}
    assert result["called"]["finish_reason"] == "tool_calls"


def test_an_answer_that_was_cut_off_is_the_clients_own_error(result: dict[str, Any]) -> None:
    assert result["cutOff"] == "LengthFinishReasonError"
