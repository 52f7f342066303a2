from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.schema import ChatRequest, CompletionRequest, parse

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
