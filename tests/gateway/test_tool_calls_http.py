"""Calls of tools and reasoning over HTTP: the fake engine says what a model would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import write_fake_model
from tests.gateway.output.strict_types import ChatChunk, WholeChat
from tests.processes import Gateway, gateway, worker
from tests.sse import chat, chat_text, finish_reasons, stream

CHAT = "/v1/chat/completions"
DEMO = Path("services/worker/sluice_worker/demo_model/chat_template.jinja")
THINKS = "{# Its answers may begin with <think> and end that with </think>. #}"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}
OTHER = {"type": "function", "function": {"name": "get_time"}}
ROME = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
OSLO = ROME.replace("Rome", "Oslo")


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    model = write_fake_model(tmp_path_factory.mktemp("models") / "fake-tools")
    (model / "chat_template.jinja").write_text(THINKS + DEMO.read_text())
    with worker(model, ENGINE="fake", FAKE_STEP_MS="1") as fake, gateway(fake.address) as started:
        yield started


def says(text: str, **fields: Any) -> dict[str, Any]:
    """A request that is answered with ``text``."""
    # The template writes the messages as they are, the fake engine reads its directive there.
    return chat("fake:" + json.dumps({"say": text}), **{"tools": [TOOL], **fields})


def whole(front: Gateway, body: dict[str, Any]) -> dict[str, Any]:
    response = httpx.post(front.url + CHAT, json=body, timeout=30)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    WholeChat.model_validate(answer)
    return answer


def refusal(front: Gateway, body: dict[str, Any]) -> dict[str, Any]:
    response = httpx.post(front.url + CHAT, json=body, timeout=30)
    assert response.status_code == 400, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def deltas(front: Gateway, body: dict[str, Any]) -> list[dict[str, Any]]:
    chunks = list(stream(front.url + CHAT, body))
    for chunk in chunks:
        ChatChunk.model_validate(chunk)
    return chunks


def calls_of(chunks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The calls of a stream, put together as clients do: name and arguments."""
    found: list[list[str]] = []
    for chunk in chunks:
        for call in chunk["choices"][0]["delta"].get("tool_calls", ()):
            if "id" in call:
                assert call["index"] == len(found)
                assert call["id"].startswith("call_")
                found.append([call["function"]["name"], ""])
            found[call["index"]][1] += call["function"]["arguments"]
    return [(name, arguments) for name, arguments in found]


@pytest.mark.parametrize("text", [ROME, f"{ROME}\n{OSLO}", f"Let me see.\n{ROME}"])
def test_calls_are_the_same_streamed_and_whole(front: Gateway, text: str) -> None:
    chunks = deltas(front, says(text))
    choice = whole(front, says(text))["choices"][0]
    message = choice["message"]
    calls = [
        (call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]
    ]
    cities = [json.loads(arguments)["city"] for _, arguments in calls]
    assert cities == [city for city in ("Rome", "Oslo") if city in text]
    assert calls == calls_of(chunks)
    assert message["content"] == (chat_text(chunks) or None)
    assert message["content"] == ("Let me see." if text.startswith("Let") else None)
    assert finish_reasons(chunks) == {0: "tool_calls"}
    assert choice["finish_reason"] == "tool_calls"


def test_ids_of_calls_are_unique(front: Gateway) -> None:
    answer = whole(front, says(f"{ROME}\n{OSLO}", n=2))
    ids = [call["id"] for one in answer["choices"] for call in one["message"]["tool_calls"]]
    assert len(set(ids)) == 4


def test_a_call_that_the_limit_cuts_off_ends_with_length(front: Gateway) -> None:
    full = whole(front, says(ROME))
    for limit in range(1, full["usage"]["completion_tokens"]):
        choice = whole(front, says(ROME, max_tokens=limit))["choices"][0]
        assert choice["finish_reason"] == "length"
        assert "<tool_call>" not in (choice["message"]["content"] or "")
    cut = full["usage"]["completion_tokens"] - 20
    chunks = deltas(front, says(ROME, max_tokens=cut))
    assert finish_reasons(chunks) == {0: "length"}
    assert [name for name, _ in calls_of(chunks)] == ["get_weather"]


def test_without_tools_or_with_tool_choice_none_the_markup_is_text(front: Gateway) -> None:
    for fields in ({"tools": None}, {"tools": []}, {"tool_choice": "none"}):
        choice = whole(front, says(ROME, **fields))["choices"][0]
        assert choice["message"]["content"] == ROME
        assert "tool_calls" not in choice["message"]
        assert choice["finish_reason"] == "stop"


def test_reasoning_is_told_apart_and_counted(front: Gateway) -> None:
    text = "<think>\nRome is warm.\n</think>\n\nIt is warm."
    for tools in ([TOOL], None):
        options = {"include_usage": True}
        chunks = deltas(front, says(text, tools=tools, stream_options=options))
        *first, last = chunks
        thought = [each["choices"][0]["delta"].get("reasoning_content", "") for each in first]
        assert "".join(thought) == "Rome is warm."
        assert chat_text(chunks) == "It is warm."
        answer = whole(front, says(text, tools=tools))
        message = answer["choices"][0]["message"]
        assert message["reasoning_content"] == "Rome is warm."
        assert message["content"] == "It is warm."
        assert answer["usage"] == last["usage"]
        counted = last["usage"]["completion_tokens_details"]["reasoning_tokens"]
        assert len("Rome is warm.") <= counted < last["usage"]["completion_tokens"]


def test_reasoning_may_come_before_a_call(front: Gateway) -> None:
    message = whole(front, says(f"<think>hm</think>{ROME}"))["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    assert message["content"] is None
    assert len(message["tool_calls"]) == 1


def test_log_probabilities_are_those_of_the_content(front: Gateway) -> None:
    text = f"<think>hm</think>It is warm.\n{ROME}"
    body = says(text, logprobs=True, return_token_ids=True)
    choice = whole(front, body)["choices"][0]
    content = choice["logprobs"]["content"]
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == "It is warm."
    chunks = deltas(front, body)
    streamed = [
        entry
        for chunk in chunks
        for entry in (chunk["choices"][0]["logprobs"] or {}).get("content", ())
    ]
    assert streamed == content
    ids = [one for chunk in chunks for one in chunk["choices"][0].get("token_ids", ())]
    assert ids == choice["token_ids"]
    assert len(ids) == whole(front, body)["usage"]["completion_tokens"]


def test_a_tools_answer_goes_back_to_the_model(front: Gateway) -> None:
    call = {"name": "get_weather", "arguments": '{"city": "Rome"}'}
    body = says("It is 21 degrees.")
    body["messages"] += [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
    ]
    asked = {name: body[name] for name in ("messages", "tools")}
    ids = httpx.post(front.url + "/tokenize", json=asked).json()["tokens"]
    prompt = httpx.post(front.url + "/detokenize", json={"tokens": ids}).json()["prompt"]
    assert ROME in prompt
    assert "<tool_response>\n21 degrees\n</tool_response>" in prompt
    assert '"name": "get_weather"' in prompt.partition("</tools>")[0]
    choice = whole(front, body)["choices"][0]
    assert choice["message"]["content"] == "It is 21 degrees."
    assert choice["finish_reason"] == "stop"


STRICT = {"type": "function", "function": {**TOOL["function"], "strict": True}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            "tool_choice",
        ),
        ({"tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"tools": [STRICT]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs"),
        ({"tools": [TOOL, TOOL]}, "tools[1].function.name"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
    ],
)
def test_what_the_engine_cannot_enforce_is_a_400_that_names_the_field(
    front: Gateway, fields: dict[str, Any], param: str
) -> None:
    error = refusal(front, says(ROME, **fields))
    assert error["param"].startswith(param)
    assert error["type"] == "invalid_request_error"


def test_reasoning_effort_goes_to_the_template(front: Gateway) -> None:
    for effort in ("none", "low", "high"):
        choice = whole(front, says("Yes.", reasoning_effort=effort))["choices"][0]
        assert choice["message"]["content"] == "Yes."


def test_the_official_client_puts_a_streamed_call_together(front: Gateway) -> None:
    client = openai.OpenAI(api_key="none", base_url=front.url + "/v1")
    body = says(f"{ROME}\n{OSLO}")
    with client.chat.completions.stream(model="fake-tools", **body) as events:
        final = events.get_final_completion()
    choice = final.choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Rome", "Oslo"]
    assert all(call.type == "function" for call in calls)
