from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sluice_gateway.errors import ApiError, InvalidRequest
from sluice_gateway.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    parse,
)

GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(body, ChatRequest)
    assert set(json.loads(caught.value.body())["error"]) == {"message", "type", "param", "code"}
    return caught.value


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "expecting value"),
        (b"{", "expecting property name"),
        (b"[]", "expected an object"),
        (b"null", "expected an object"),
        (b'"text"', "expected an object"),
        (b"\xff\xfe", "not UTF-8"),
        (GOOD.decode().encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf" + GOOD, "bom"),
        (GOOD + b"x", "extra data"),
        (b'{"temperature":NaN}', "NaN is not a JSON number"),
        (b'{"temperature":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"n":' + b"1" * 5000 + b"}", "too many digits"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"tools":' + b"[" * 80 + b"]" * 80 + b"}", "nested too deeply"),
        (b'{"a":"\x01"}', "invalid control character"),
    ],
)
def test_what_is_not_json_is_told_in_one_sentence(body: bytes, says: str) -> None:
    error = refusal(body)
    assert says in error.message
    assert error.code == "invalid_json"


def test_a_key_that_comes_twice_is_refused() -> None:
    error = refusal(b'{"model":"a","model":"b"}')
    assert error.param == "model"
    assert "twice" in error.message


def test_the_search_for_a_repeated_key_is_linear_in_the_keys() -> None:
    names = [f'"k{number}":1' for number in range(40_000)]
    body = "{" + ",".join([*names, names[-1]]) + "}"
    start = time.process_time()
    assert refusal(body.encode()).param == "k39999"
    assert time.process_time() - start < 5  # comparing all with all takes 20 s


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800":1,"\\ud800":2}',
        b'{"a":{"\\udfff":[],"\\udfff":1}}',
        b'{"a":{"\\ud800":1}}',
        b'{"messages":[{"\\ud800x":"\\ud800"}]}',
        b'{"\\ud83d\\ude42":1,"x\\ude42":1}',
    ],
)
def test_half_a_surrogate_pair_in_a_key_is_refused_in_words_that_can_be_sent(body: bytes) -> None:
    error = refusal(body)
    assert "surrogate" in error.message
    (error.message + str(error.param)).encode()


def test_any_error_has_a_body() -> None:
    error = ApiError("not a character: \ud800", param="\udfffé")
    assert json.loads(error.body())["error"]["param"] == "\udfffé"


def test_half_a_surrogate_pair_is_refused_where_it_is() -> None:
    error = refusal(b'{"model":"m","messages":[{"role":"user","content":"a\\ud83d"}]}')
    assert error.param == "messages[0].content"
    assert parse(GOOD.replace(b"hi", b"\\ud83d\\ude42"), ChatRequest).messages[0].content == "🙂"
    assert refusal(b'{"model":"m","messages":[],"\\udc00":1}').status == 400


def test_infinity_by_overflow_is_refused() -> None:
    assert refusal(GOOD[:-1] + b',"temperature":1e999}').param == "temperature"


def test_the_first_of_several_mistakes_is_told() -> None:
    assert refusal(GOOD[:-1] + b',"n":0,"top_p":9}').param in {"n", "top_p"}


def test_a_long_name_is_not_sent_back_whole() -> None:
    error = refusal(GOOD[:-1] + b',"' + b"x" * 100_000 + b'":1}')
    assert error.param is not None
    assert len(error.param) < 300
    assert len(error.message) < 400


def test_the_input_is_not_in_the_message() -> None:
    assert "secret" not in refusal(GOOD.replace(b'"hi"', b'{"a":"secret"}')).message


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_taken_or_refused_with_a_400(body: bytes) -> None:
    try:
        parse(body, CompletionRequest)
    except InvalidRequest as error:
        json.loads(error.body())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD)), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_request_is_taken_or_refused_with_a_400(place: int, put: bytes, cut: int) -> None:
    try:
        parse(GOOD[:place] + put + GOOD[place + cut :], ChatRequest)
    except InvalidRequest as error:
        json.loads(error.body())


MIB = 1 << 20


def filled(size: int, start: str, item: str, end: str) -> bytes:
    """A body of that size in bytes: between its ends nothing but that item, with numbers in it."""
    count = size // (len(item.replace("%d", "1234567")) + 1)
    items = (item.replace("%d", str(number)) for number in range(count))
    return (start + ",".join(items) + end).encode()


BAD: dict[str, tuple[type[Any], tuple[str, str, str]]] = {
    "ids": (CompletionRequest, ('{"prompt":[1,', '""', "]}")),
    "negative ids": (CompletionRequest, ('{"prompt":[', "-1", "]}")),
    "texts": (CompletionRequest, ('{"prompt":["",', "1", "]}")),
    "lists of ids": (CompletionRequest, ('{"prompt":[[1],', '[""]', "]}")),
    "lists in a list": (CompletionRequest, ('{"prompt":[[1,', "{}", "]]}")),
    "stop": (CompletionRequest, ('{"prompt":"a","stop":[', "1", "]}")),
    "stop ids": (CompletionRequest, ('{"prompt":"a","stop_token_ids":[', "{}", "]}")),
    "allowed ids": (CompletionRequest, ('{"prompt":"a","allowed_token_ids":[', "{}", "]}")),
    "bias": (CompletionRequest, ('{"prompt":"a","logit_bias":{', '"%d":[]', "}}")),
    "metadata": (CompletionRequest, ('{"prompt":"a","metadata":{', '"%d":1', "}}")),
    "keys": (ChatRequest, ("{", '"%d":1', "}")),
    "messages": (ChatRequest, ('{"messages":[', "{}", "]}")),
    "keys of a message": (ChatRequest, ('{"messages":[{"role":"user",', '"%d":1', "}]}")),
    "parts": (ChatRequest, ('{"messages":[{"role":"user","content":[', "1", "]}]}")),
    "calls": (ChatRequest, ('{"messages":[{"role":"assistant","tool_calls":[', "{}", "]}]}")),
    "variables": (ChatRequest, ('{"messages":[],"chat_template_kwargs":{', '"a%d":[]', "}}")),
    "tokenize": (TokenizeRequest, ('{"messages":[', "1", "]}")),
    "detokenize": (DetokenizeRequest, ('{"tokens":[', '""', "]}")),
}


@pytest.mark.parametrize("name", BAD)
def test_a_body_full_of_mistakes_makes_few_errors(name: str) -> None:
    model_class, parts = BAD[name]
    with pytest.raises(ValidationError) as caught:
        model_class.model_validate(json.loads(filled(MIB, *parts)))
    assert caught.value.error_count() < 100


@pytest.mark.parametrize(("name", "size"), [("ids", 8 * MIB), ("keys", 2 * MIB)])
def test_a_body_full_of_mistakes_takes_no_more_memory_than_its_json(name: str, size: int) -> None:
    model_class, parts = BAD[name]
    body = filled(size, *parts)
    tracemalloc.start()
    try:
        json.loads(body.decode(), object_pairs_hook=dict)
        plain = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        with pytest.raises(InvalidRequest):
            parse(body, model_class)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * plain + 16 * MIB
