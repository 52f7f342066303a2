"""Families whose marks are special tokens, over HTTP: the fake engine says what a model would."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sluice_gateway.output.formats import detect
from tokenizers import Tokenizer

from tests.conftest import write_fake_model
from tests.engines import READY_SECONDS
from tests.gateway.output.formats.reading import TOOLS
from tests.gateway.output.formats.transcripts_marked import PARIS, glm_pair, kimi
from tests.gateway.output.strict_types import WholeChat
from tests.processes import Gateway, gateway, worker
from tests.sse import chat, chat_text, finish_reasons, stream

CHAT = "/v1/chat/completions"
OFFERED = [
    {"type": "function", "function": {"name": name, "parameters": schema}}
    for name, schema in TOOLS.items()
]


@dataclass(frozen=True)
class Family:
    """What tells the family in a template, and an answer of one of its models."""

    clues: str
    said: str
    reasoning: str = "Hm."
    content: str | None = None
    calls: int = 1


FAMILIES = {
    "gpt-oss": Family(
        "<|channel|>analysis<|message|>",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary"
        f" to=functions.get_weather <|constrain|>json<|message|>{PARIS}<|call|>",
    ),
    "kimi": Family(
        "tools<|tool_call_argument_begin|><think>",
        "<think>Hm.</think>I look." + kimi(("get_weather", PARIS), ("get_weather", PARIS)),
        content="I look.",
        calls=2,
    ),
    "glm": Family(
        "tools<tool_call><arg_key><think>",
        f"\n<think>Hm.</think>\n<tool_call>get_weather\n{glm_pair('city', 'Paris')}\n</tool_call>",
    ),
    "granite": Family(
        "<|tool_call|><think></think><response></response>",
        f'<think>Hm.</think><|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}]',
    ),
}


def write_family(folder: Path, family: Family) -> Path:
    """A model whose tokenizer has the family's marks as special tokens."""
    write_fake_model(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(list(detect(family.clues).marks))
    tokenizer.save(str(folder / "tokenizer.json"))
    shows = (
        "{# "
        + family.clues
        + " #}{% if tools %}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(shows)
    return folder


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("families")
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(worker(write_family(folder / name, family), ENGINE="fake"))
            for name, family in FAMILIES.items()
        ]
        addresses = [each.address for each in workers]
        started = stack.enter_context(gateway(*addresses, wait=False))
        started.wait_ready(len(FAMILIES), READY_SECONDS)
        yield started


def asking(name: str, **fields: Any) -> dict[str, Any]:
    content = "fake:" + json.dumps({"say": FAMILIES[name].said})
    return {**chat(content), "model": name, "tools": OFFERED, **fields}


@pytest.mark.parametrize("name", FAMILIES)
def test_an_answer_in_a_familys_markup_is_told_apart(front: Gateway, name: str) -> None:
    family = FAMILIES[name]
    response = httpx.post(front.url + CHAT, json=asking(name), timeout=30)
    assert response.status_code == 200, response.text
    answer = response.json()
    WholeChat.model_validate(answer)
    (choice,) = answer["choices"]
    message = choice["message"]
    assert message["reasoning_content"] == family.reasoning
    assert message["content"] == family.content
    functions = [call["function"] for call in message["tool_calls"]]
    assert [json.loads(each["arguments"]) for each in functions] == [
        {"city": "Paris"}
    ] * family.calls
    assert choice["finish_reason"] == "tool_calls"
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_the_stream_says_the_same(front: Gateway, name: str) -> None:
    family = FAMILIES[name]
    options = {"include_usage": True}
    chunks = list(stream(front.url + CHAT, asking(name, stream_options=options, logprobs=True)))
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(each.get("reasoning_content", "") for each in deltas) == family.reasoning
    assert chat_text(chunks) == (family.content or "")
    pieces = [piece for each in deltas for piece in each.get("tool_calls", ())]
    arguments = ["" for piece in pieces if "id" in piece]
    for piece in pieces:
        arguments[piece["index"]] += piece["function"]["arguments"]
    assert [json.loads(each) for each in arguments] == [{"city": "Paris"}] * family.calls
    assert finish_reasons(chunks) == {0: "tool_calls"}
    scored = [
        entry
        for chunk in chunks
        for choice in chunk["choices"]
        for entry in (choice["logprobs"] or {}).get("content", ())
    ]
    assert b"".join(bytes(each["bytes"]) for each in scored).decode() == (family.content or "")


@pytest.mark.parametrize("name", FAMILIES)
def test_without_tools_only_the_reasoning_is_told_apart(front: Gateway, name: str) -> None:
    body = {**asking(name), "tools": None}
    message = httpx.post(front.url + CHAT, json=body, timeout=30).json()["choices"][0]["message"]
    assert message["reasoning_content"] == FAMILIES[name].reasoning
    assert "tool_calls" not in message
    assert "Paris" in message["content"]
