from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk
from sluice_gateway.chunks import ChatChunks, CompletionChunks, quoted
from sluice_gateway.output import TextDelta, TokenLogprob, TopLogprob
from sluice_gateway.usage import Usage

from tests.gateway.output.strict_types import ChatChunk, CompletionChunk

EXAMPLES = settings(max_examples=200, deadline=None)
USAGE = Usage(prompt_tokens=5, completion_tokens=7, cached_tokens=2)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ENTRY = TokenLogprob(b"\xf0\x9f", -0.25, [TopLogprob(b"a", -1.5), TopLogprob(b"\xff", -2.0)], 3)


def chat(**options: Any) -> ChatChunks:
    return ChatChunks("chatcmpl-1", 1700000000, 'a "model"', "fp_1", **options)


def completion(**options: Any) -> CompletionChunks:
    return CompletionChunks("cmpl-1", 1700000000, "demo", None, **options)


def payload(frame: bytes) -> dict[str, Any]:
    assert frame.startswith(b"data: ")
    assert frame.endswith(b"\n\n")
    # One event is one line for every reader, also for those that know more line ends.
    assert len(frame.decode().splitlines()) == 2
    found: dict[str, Any] = json.loads(frame[6:])
    return found


def chat_stream(chunks: ChatChunks, texts: list[str], index: int = 0) -> list[bytes]:
    deltas = [chunks.delta(index, TextDelta(text)) for text in texts]
    return [chunks.role(index), *deltas, chunks.finish(index, "stop")]


@EXAMPLES
@given(TEXT)
def test_any_text_arrives_as_it_was(text: str) -> None:
    frame = payload(chat().text(0, text))
    assert frame["choices"][0]["delta"] == {"content": text}
    assert payload(completion().text(0, text))["choices"][0]["text"] == text
    assert json.loads(quoted(text)) == text


@pytest.mark.parametrize("char", ["\x00", "\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_line_end_of_any_kind_is_in_an_event(char: str) -> None:
    assert payload(chat().text(0, f"a{char}b"))["choices"][0]["delta"]["content"] == f"a{char}b"


@pytest.mark.parametrize("include_usage", [False, True])
@pytest.mark.parametrize("service_tier", [None, "default"])
def test_chat_chunks_are_exactly_openais(include_usage: bool, service_tier: str | None) -> None:
    chunks = chat(choices=2, include_usage=include_usage, service_tier=service_tier)
    scored = chunks.delta(0, TextDelta("b", logprobs=[ENTRY]))
    frames = [*chat_stream(chunks, ["a"]), *chat_stream(chunks, [""], 1), scored]
    for frame in frames:
        data = payload(frame)
        ChatChunk.model_validate(data)
        ChatCompletionChunk.model_validate(data, strict=True)
        assert ("usage" in data) == include_usage
        assert data.get("usage") is None
        assert data.get("service_tier") == service_tier
    heads = [{**payload(frame), "choices": 0} for frame in frames]
    assert all(head == heads[0] for head in heads)
    assert heads[0]["model"] == 'a "model"'


@pytest.mark.parametrize("include_usage", [False, True])
def test_completion_chunks_are_exactly_openais(include_usage: bool) -> None:
    chunks = completion(choices=2, include_usage=include_usage)
    scored = chunks.delta(1, TextDelta("b", logprobs=[ENTRY]))
    for frame in [chunks.text(0, "a"), scored, chunks.finish(1, "length")]:
        data = payload(frame)
        CompletionChunk.model_validate(data)
        assert ("usage" in data) == include_usage
    finish = payload(chunks.finish(1, "length"))
    Completion.model_validate(finish, strict=True)
    assert finish["choices"] == [
        {"index": 1, "text": "", "logprobs": None, "finish_reason": "length"}
    ]


def test_the_last_chunk_has_the_usage_and_no_choices() -> None:
    data = payload(chat(include_usage=True).usage(USAGE))
    ChatChunk.model_validate(data)
    assert data["choices"] == []
    assert data["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def test_continuous_usage_is_in_every_chunk() -> None:
    chunks = chat(include_usage=True)
    frames = [
        chunks.role(0, usage=USAGE),
        chunks.delta(0, TextDelta("a"), USAGE),
        chunks.finish(0, "stop", USAGE),
    ]
    for frame in frames:
        assert ChatChunk.model_validate(payload(frame)).usage is not None


def test_the_role_comes_first_and_the_reason_last_and_alone() -> None:
    first, text, last = [payload(frame)["choices"][0] for frame in chat_stream(chat(), ["hi"])]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert text["delta"] == {"content": "hi"}
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert first["finish_reason"] is text["finish_reason"] is None


def test_chat_log_probabilities_have_the_raw_bytes_of_half_a_character() -> None:
    data = payload(chat().delta(0, TextDelta("", logprobs=[ENTRY])))
    content = data["choices"][0]["logprobs"]["content"]
    assert content == [
        {
            "token": "\ufffd",
            "logprob": -0.25,
            "bytes": [240, 159],
            "top_logprobs": [
                {"token": "a", "logprob": -1.5, "bytes": [97]},
                {"token": "\ufffd", "logprob": -2.0, "bytes": [255]},
            ],
        }
    ]


def test_completion_log_probabilities_name_half_characters_apart() -> None:
    data = payload(completion().delta(0, TextDelta("", logprobs=[ENTRY])))
    assert data["choices"][0]["logprobs"] == {
        "tokens": ["bytes:\\xf0\\x9f"],
        "token_logprobs": [-0.25],
        "top_logprobs": [{"a": -1.5, "bytes:\\xff": -2.0, "bytes:\\xf0\\x9f": -0.25}],
        "text_offset": [3],
    }


def test_token_ids_are_where_vllm_puts_them() -> None:
    data = payload(chat(token_ids=True).delta(0, TextDelta("ab", [1, 2])))
    assert data["choices"][0]["token_ids"] == [1, 2]
    assert payload(chat(token_ids=True).role(0, [7, 8]))["prompt_token_ids"] == [7, 8]
    opening = payload(completion().opening(0, "prompt", [7, 8]))["choices"][0]
    assert opening["prompt_token_ids"] == [7, 8]
    assert opening["text"] == "prompt"


def served(frames: list[bytes]) -> openai.OpenAI:
    def answer(_: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=_Bytes([*frames, b"data: [DONE]\n\n"]))

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(api_key="none", base_url="http://test/v1", http_client=client)


class _Bytes(httpx2.SyncByteStream):
    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[bytes]:
        yield from self._frames


def test_the_official_client_puts_a_chat_stream_together() -> None:
    chunks = chat(choices=2, include_usage=True)
    frames = [chunks.role(0), chunks.role(1)]
    frames += [chunks.text(0, "hel\u2028"), chunks.text(1, "wor"), chunks.text(0, "lo")]
    frames += [chunks.delta(1, TextDelta("ld", logprobs=[ENTRY]))]
    frames += [chunks.finish(0, "stop"), chunks.finish(1, "stop"), chunks.usage(USAGE)]
    with served(frames).chat.completions.stream(
        model="demo", messages=[{"role": "user", "content": "x"}], n=2
    ) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == ["hel\u2028lo", "world"]
    assert [choice.message.role for choice in final.choices] == ["assistant", "assistant"]
    assert [choice.finish_reason for choice in final.choices] == ["stop", "stop"]
    assert final.usage is not None
    assert final.usage.total_tokens == 12


def test_the_official_client_reads_a_completion_stream() -> None:
    chunks = completion()
    frames = [chunks.text(0, "hel"), chunks.text(0, "lo"), chunks.finish(0, "stop")]
    client = served(frames)
    stream = client.completions.create(model="demo", prompt="x", stream=True)
    found = [chunk.choices[0] for chunk in stream]
    assert "".join(choice.text for choice in found) == "hello"
    assert found[-1].finish_reason == "stop"
