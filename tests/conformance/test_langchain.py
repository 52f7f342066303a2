"""LangChain's ChatOpenAI."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from langchain_openai import ChatOpenAI

from tests.conformance.langchain_client import chat_openai
from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")


@pytest.fixture
async def chat(front: Gateway) -> AsyncIterator[ChatOpenAI]:
    async with chat_openai(front, max_tokens=40) as client:
        yield client


def test_invoke_and_stream_say_the_same(chat: ChatOpenAI) -> None:
    whole = chat.invoke("Say hello")
    assert whole.content.startswith("Hello")
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.usage_metadata["output_tokens"] > 3
    pieces = list(chat.stream("Say hello", stream_usage=True))
    assert "".join(piece.content for piece in pieces) == whole.content
    assert (
        sum((piece.usage_metadata or {}).get("output_tokens", 0) for piece in pieces)
        == (whole.usage_metadata["output_tokens"])
    )


async def test_a_batch_is_answered_in_order(chat: ChatOpenAI) -> None:
    questions = ["Say hello", "What is Sluice?", "Thank you"]
    answers = await chat.abatch(questions)
    assert [answer.content for answer in answers] == [
        (await chat.ainvoke(question)).content for question in questions
    ]
