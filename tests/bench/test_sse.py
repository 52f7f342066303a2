from __future__ import annotations

import pytest

from bench import mock_openai
from bench.sse import BadResponse, Event, StreamReader

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    + mock_openai.ROLE
    + mock_openai.TOKEN * 3
    + mock_openai.FINISH
    + mock_openai.chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3})
    + mock_openai.DONE
)
EVENTS = [
    Event.OTHER,  # role
    *[Event.CONTENT] * 3,
    *[Event.OTHER] * 3,  # finish reason, usage, [DONE]
    Event.END,
]


def test_a_stream_is_read_whole() -> None:
    reader = StreamReader()
    assert reader.feed(STREAM) == EVENTS
    assert reader.tokens == 3


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 300])
def test_events_do_not_depend_on_how_the_bytes_arrive(size: int) -> None:
    reader = StreamReader()
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS
    assert reader.tokens == 3


def test_a_connection_is_used_again() -> None:
    reader = StreamReader()
    assert reader.feed(STREAM + STREAM[:100]) == EVENTS
    assert reader.feed(STREAM[100:]) == EVENTS


def test_an_event_may_span_http_chunks() -> None:
    head, _, _ = STREAM.partition(b"\r\n\r\n")
    reader = StreamReader()
    reader.feed(head + b"\r\n\r\n")
    assert reader.feed(b'7\r\ndata: {\r\n10\r\n"content": "hi"}\r\n') == []
    assert reader.feed(b"2\r\n\n\n\r\n") == [Event.CONTENT]


def test_text_with_escaped_quotes_is_content_and_empty_text_is_not() -> None:
    head, _, _ = STREAM.partition(b"\r\n\r\n")
    reader = StreamReader()
    reader.feed(head + b"\r\n\r\n")
    escaped = b'data: {"delta":{"content":"\\""}}\n\n'
    empty = b'data: {"delta":{"content":""}}\n\n'
    none = b'data: {"delta":{"content":null}}\n\n'
    for data, event in ((escaped, Event.CONTENT), (empty, Event.OTHER), (none, Event.OTHER)):
        assert reader.feed(b"%x\r\n%b\r\n" % (len(data), data)) == [event]


def test_an_error_answer_is_shown() -> None:
    with pytest.raises(BadResponse, match="queue is full"):
        StreamReader().feed(b"HTTP/1.1 429 Too Many\r\ncontent-length: 17\r\n\r\nthe queue is full")
