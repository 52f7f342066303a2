"""The official Python client, synchronous and asynchronous."""

from __future__ import annotations

import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")
MODEL = "sluice-demo"
HELLO = [{"role": "user", "content": "Say hello"}]


@pytest.fixture
def client(front: Gateway) -> OpenAI:
    return OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0)


def ask(client: OpenAI, **fields):  # type: ignore[no-untyped-def]
    fields = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 40, **fields}
    return client.chat.completions.create(**fields)


def test_a_whole_answer_is_a_sentence_that_ends(client: OpenAI) -> None:
    answer = ask(client)
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content.startswith("Hello")
    assert choice.message.refusal is None
    assert not choice.message.tool_calls
    assert answer.usage.completion_tokens > 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.system_fingerprint.startswith("fp_")


def test_the_stream_says_the_same_as_the_whole_answer(client: OpenAI) -> None:
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert len(chunks) > 5


def test_the_clients_own_accumulator_takes_the_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=HELLO, temperature=0, max_tokens=40, n=3, logprobs=True
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    texts = [choice.message.content for choice in final.choices]
    assert texts == [ask(client).choices[0].message.content] * 3
    for choice in final.choices:
        tokens = choice.logprobs.content
        assert b"".join(bytes(token.bytes) for token in tokens).decode().startswith(texts[0])


def test_n_streams_are_told_apart_and_seeded_draws_repeat(client: OpenAI) -> None:
    story = [{"role": "user", "content": "Tell me a story"}]  # which it tells in many ways
    drawn = {"messages": story, "temperature": 2, "top_p": 1, "seed": 7, "max_tokens": 30}

    def texts() -> list[str]:
        return [choice.message.content for choice in ask(client, n=4, **drawn).choices]

    first = texts()
    assert texts() == first
    assert len(set(first)) == 4
    one = ask(client, **drawn)
    assert one.choices[0].message.content == first[0]


def test_stop_strings_and_length(client: OpenAI) -> None:
    text = ask(client).choices[0].message.content
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    stopped = ask(client, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == text[: text.index(stop)]
    cut = ask(client, max_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 2
    assert ask(client, max_completion_tokens=1).usage.completion_tokens == 1


def test_logprobs_are_those_of_the_tokens_shown(client: OpenAI) -> None:
    choice = ask(client, logprobs=True, top_logprobs=5).choices[0]
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 5
        # Greedy: the token chosen is the most likely one.
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs[0].logprob == entry.logprob


def test_logit_bias_forbids_and_forces(client: OpenAI) -> None:
    plain = ask(client, logprobs=True, max_tokens=1).choices[0]
    token = plain.logprobs.content[0].token
    ids = client.post("../tokenize", body={"prompt": token}, cast_to=dict)["tokens"]
    banned = ask(client, logit_bias={str(ids[0]): -100}, max_tokens=1).choices[0]
    assert banned.message.content != plain.message.content


def test_completions(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["Hello", "What is"], max_tokens=5, temperature=0, logprobs=2, n=2
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].text == answer.choices[1].text
    assert len(answer.choices[0].logprobs.tokens) == len(answer.choices[0].logprobs.token_logprobs)
    streamed = client.completions.create(
        model=MODEL, prompt="Hello", max_tokens=5, temperature=0, stream=True
    )
    assert "".join(c.text for chunk in streamed for c in chunk.choices) == answer.choices[0].text


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "sluice"
    assert client.models.retrieve(MODEL).to_dict()["state"] == "ready"


def test_errors_are_the_clients_own_exceptions(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        ask(client, model="nobody")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        ask(client, temperature=9)
    assert bad.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        ask(client, messages=[{"role": "user", "content": "word " * 5000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as later:
        ask(client, web_search_options={})
    assert later.value.param == "web_search_options"


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.mark.parametrize("streaming", [False, True])
def test_an_agent_calls_a_tool_and_answers_from_its_result(client: OpenAI, streaming: bool) -> None:
    fields = {"model": MODEL, "temperature": 0, "max_tokens": 60, "tools": [WEATHER]}
    messages = [{"role": "user", "content": "What is the weather in Rome?"}]

    def turn():  # type: ignore[no-untyped-def]
        if not streaming:
            return client.chat.completions.create(messages=messages, **fields).choices[0]
        with client.chat.completions.stream(messages=messages, **fields) as events:
            return events.get_final_completion().choices[0]

    asked = turn()
    assert asked.finish_reason == "tool_calls"
    (call,) = asked.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"temperature": 21}'}
    messages += [asked.message.to_dict(), result]
    answered = turn()
    assert answered.finish_reason == "stop"
    assert answered.message.content


class Answer(BaseModel):
    """A form for an answer."""

    yes: bool
    count: int


def test_an_answer_may_be_parsed_as_a_pydantic_model(client: OpenAI) -> None:
    found = client.chat.completions.parse(
        model=MODEL, messages=HELLO, temperature=0, max_tokens=60, response_format=Answer
    )
    assert isinstance(found.choices[0].message.parsed, Answer)


async def test_the_asynchronous_client_streams_many_at_once(front: Gateway) -> None:
    import asyncio

    async with AsyncOpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0) as client:

        async def one() -> str:
            stream = await client.chat.completions.create(
                model=MODEL, messages=HELLO, temperature=0, max_tokens=40, stream=True
            )
            return "".join([c.delta.content or "" async for k in stream for c in k.choices])

        texts = await asyncio.gather(*(one() for _ in range(16)))
    assert len(set(texts)) == 1
    assert texts[0].startswith("Hello")
