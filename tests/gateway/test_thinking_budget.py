"""``thinking_token_budget``: what a worker is told, and what clients see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.model import ServedModel
from sluice_gateway.output.formats import REASONING_FORMATS, Formats, Opening
from sluice_gateway.prompt import PromptBuilder
from sluice_gateway.thinking_budget import thinking_budget

from tests.conftest import TEXT, make_tokenizer, write_fake_model
from tests.gateway.text.samples import model, token_id
from tests.gateway.text.test_prompt import chat_request
from tests.processes import Gateway, gateway, worker
from tests.sse import stream

BEGIN, END = token_id("byte_level", "<think>"), token_id("byte_level", "</think>")
OPENS = "{{ messages[0].content }}{% if add_generation_prompt %}<think>\n{% endif %}"
PATH = "/v1/chat/completions"


def reasoning(style: str | None, **config: Any) -> ServedModel:
    found = None if style is None else REASONING_FORMATS[style]
    return replace(model(**config), formats=Formats(reasoning=found))


@pytest.mark.parametrize(
    ("opening", "begun"), [(Opening.INSIDE, True), (Opening.OPEN, False), (Opening.CLOSED, None)]
)
def test_the_prompts_end_says_whether_reasoning_has_begun(
    opening: Opening, begun: bool | None
) -> None:
    found = thinking_budget(7, reasoning("think"), opening)
    if begun is None:
        assert found is None
    else:
        assert found == pb.ThinkingBudget(tokens=7, begin_id=BEGIN, end_id=END, begun=begun)


def test_without_a_budget_any_model_will_do() -> None:
    assert thinking_budget(None, reasoning(None), Opening.OPEN) is None


@pytest.mark.parametrize("style", [None, "harmony", "mistral", "granite32"])
def test_a_model_whose_reasoning_cannot_be_cut_off_is_refused_by_name(style: str | None) -> None:
    for opening in Opening:
        with pytest.raises(InvalidRequest) as caught:
            thinking_budget(7, reasoning(style), opening)
        assert (caught.value.param, caught.value.code) == (
            "thinking_token_budget",
            "unsupported_parameter",
        )


def test_marks_beyond_the_logits_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        thinking_budget(7, reasoning("think", vocab_size=END), Opening.OPEN)
    assert caught.value.param == "thinking_token_budget"


def test_a_budget_stands_beside_a_structured_output() -> None:
    served = model(template=OPENS)
    served = replace(served, info=replace(served.info, structured_output=True))
    asked = chat_request(
        [{"role": "user", "content": "x"}],
        thinking_token_budget=3,
        response_format={"type": "json_object"},
    )
    form = PromptBuilder(served).chat(asked).form
    assert form.thinking == pb.ThinkingBudget(tokens=3, begin_id=BEGIN, end_id=END, begun=True)
    assert form.structured is not None
    assert f"<[{END}]>" in form.structured.grammar


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = write_fake_model(tmp_path_factory.mktemp("thinker") / "thinker")
    with_marks(folder)
    with (
        worker(folder, ENGINE="fake", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address) as started,
    ):
        yield started


def with_marks(folder: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|im_end|>", "chat_template": OPENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def body(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, **fields}


def test_reasoning_is_ended_and_the_answer_goes_on(front: Gateway) -> None:
    answer = httpx.post(front.url + PATH, json=body(thinking_token_budget=3)).json()
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] == "The quick brown"
    assert len(message["content"].split()) == 4
    assert answer["usage"]["completion_tokens"] == 8
    chunks = list(stream(front.url + PATH, body(thinking_token_budget=3)))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    said = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    assert said == message["reasoning_content"]
    assert "".join(delta.get("content") or "" for delta in deltas) == message["content"]


def test_no_reasoning_at_all_is_a_budget_too(front: Gateway) -> None:
    for fields, thinks in (
        ({"thinking_token_budget": 0}, False),
        ({"thinking_token_budget": -1}, True),
        ({"thinking_token_budget": 100}, True),
    ):
        answer = httpx.post(front.url + PATH, json=body(**fields)).json()
        message = answer["choices"][0]["message"]
        assert bool(message.get("reasoning_content")) == thinks
        assert bool(message["content"]) != thinks
