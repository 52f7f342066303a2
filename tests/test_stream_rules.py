"""The checker of streams lets good ones pass and finds each fault."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import httpx
import httpx2
import pytest

from tests.stream_rules import BrokenRule, StreamRules, check_stream
from tests.stream_watch import StreamWatch

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
Json = dict[str, Any]
Event = Json | str
DONE = "[DONE]"
TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97]}


def text(events: list[Event]) -> bytes:
    """Events as a stream has them; strings as they are."""
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(
        f"{line}\n\n" if line.startswith(":") else f"data: {line}\n\n" for line in lines
    ).encode()


def chunk(delta: Json, index: int = 0, reason: str | None = None, **fields: Any) -> Json:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**head("chatcmpl-1", "chat.completion.chunk"), "choices": [{**choice, **fields}]}


def piece(said: str, index: int = 0, reason: str | None = None, **fields: Any) -> Json:
    choice = {"index": index, "text": said, "logprobs": None, "finish_reason": reason}
    return {**head("cmpl-1", "text_completion"), "choices": [{**choice, **fields}]}


def head(response_id: str, kind: str) -> Json:
    known = {"created": 1, "model": "m", "system_fingerprint": "fp_1"}
    return {"id": response_id, "object": kind, **known}


def usage(prompt: int, completion: int, **changed: Any) -> Json:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
        **changed,
    }


def begun(index: int, call_id: str, name: str = "f") -> Json:
    function = {"name": name, "arguments": ""}
    call = {"index": index, "id": call_id, "type": "function", "function": function}
    return {"tool_calls": [call]}


def more(index: int, arguments: str) -> Json:
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}


ROLE = {"role": "assistant", "content": ""}
SAID = [chunk(ROLE), chunk({"content": "a"}), chunk({}, reason="stop")]
TWO = [chunk(ROLE), chunk(ROLE, 1), *SAID[1:], chunk({"content": "b"}, 1), chunk({}, 1, "length")]
CALLED = [
    chunk(ROLE),
    chunk({"reasoning_content": "hm"}),
    chunk(begun(0, "call_a")),
    chunk(more(0, "{}")),
    chunk(begun(1, "call_b")),
    chunk(more(1, "{}")),
    chunk({}, reason="tool_calls"),
]
WROTE = [piece("a"), piece("b", 1), piece("", 1, "stop"), piece("", 0, "length")]
ERROR = {"error": {"message": "x", "type": "server_error", "param": None, "code": "internal"}}
SCORED = {"content": [{**TOKEN, "top_logprobs": [TOKEN]}], "refusal": None}
LISTS = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{}], "text_offset": [4]}


def counted(events: list[Json], *, continuous: bool = False) -> list[Json]:
    """The stream with usage."""
    counts = [usage(5, number) if continuous else None for number in range(len(events))]
    told = [{**event, "usage": count} for event, count in zip(events, counts, strict=True)]
    return [*told, {**events[0], "choices": [], "usage": usage(5, len(events))}]


ASK_USAGE = {"stream_options": {"include_usage": True}}
ASK_ALL_USAGE = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
NAMED = {"tool_choice": {"type": "function", "function": {"name": "f"}}}
GOOD: dict[str, tuple[str, Json, list[Event]]] = {
    "text": (CHAT, {}, [*SAID, DONE]),
    "a model asked for by name": (CHAT, {"model": "m"}, [*SAID, DONE]),
    "comments": (CHAT, {}, [": waits", *SAID, ": keep-alive", DONE]),
    "two choices": (CHAT, {"n": 2}, [*TWO, DONE]),
    "calls": (CHAT, {"tools": []}, [*CALLED, DONE]),
    "a named call": (CHAT, NAMED, [*CALLED[:4], chunk({}, reason="stop"), DONE]),
    "a call cut off": (CHAT, {}, [*CALLED[:3], chunk({}, reason="length"), DONE]),
    "usage": (CHAT, ASK_USAGE, [*counted(SAID), DONE]),
    "usage all the way": (CHAT, ASK_ALL_USAGE, [*counted(SAID, continuous=True), DONE]),
    "an error": (CHAT, ASK_USAGE, [counted(SAID)[0], ERROR, DONE]),
    "an error at once": (CHAT, {}, [": waits", ERROR, DONE]),
    "scored": (
        CHAT,
        {"logprobs": True, "top_logprobs": 1},
        [SAID[0], chunk({"content": "a"}, logprobs=SCORED), SAID[2], DONE],
    ),
    "a completion": (COMPLETIONS, {"prompt": ["x", "y"]}, [*WROTE, DONE]),
    "a completion of ids": (COMPLETIONS, {"prompt": [1, 2], "n": 2}, [*WROTE, DONE]),
    "a scored completion": (
        COMPLETIONS,
        {"prompt": "x", "logprobs": 0},
        [piece("a", logprobs=LISTS), piece("", 0, "stop"), DONE],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_stream_passes_however_it_is_cut(name: str) -> None:
    path, request, events = GOOD[name]
    stream = text(events)
    check_stream(path, request, stream)
    rules = StreamRules(path, request)
    for byte in stream:
        rules.feed(bytes([byte]))
    rules.close()


def changed(name: str, change: Callable[[list[Any]], object]) -> tuple[str, Json, list[Event]]:
    path, request, events = copy.deepcopy(GOOD[name])
    change(events)
    return path, request, events


def put(place: int, **fields: Any) -> Callable[[list[Any]], object]:
    """Other fields in one event."""
    return lambda events: events[place].update(fields)


def choice(place: int, **fields: Any) -> Callable[[list[Any]], object]:
    """Other fields in the choice of one event."""
    return lambda events: events[place]["choices"][0].update(fields)


def insert(place: int, event: Event) -> Callable[[list[Any]], object]:
    return lambda events: events.insert(place, event)


def drop(place: int) -> Callable[[list[Any]], object]:
    return lambda events: events.pop(place)


FAULTS: list[tuple[int, str, Callable[[list[Any]], object]]] = [
    (2, "text", drop(-1)),
    (2, "an error", drop(-1)),
    (2, "text", insert(4, SAID[1])),
    (2, "text", insert(4, DONE)),
    (3, "an error", insert(2, counted(SAID)[1])),
    (3, "an error", put(1, error={**ERROR["error"], "more": 1})),
    (3, "an error", put(1, error={"message": "x"})),
    (4, "text", put(1, id="chatcmpl-2")),
    (4, "text", put(1, created=2)),
    (4, "text", put(1, created=1.5)),
    (4, "text", put(2, model="n")),
    (
        4,
        "a model asked for by name",
        lambda events: [each.update(model="n") for each in events[:3]],
    ),
    (4, "text", put(2, system_fingerprint=None)),
    (4, "text", put(1, object="chat.completion")),
    (4, "text", put(1, extra=None)),
    (4, "text", lambda events: [each.update(id="x") for each in events[:3]]),
    (4, "a completion", put(0, object="text_completion.chunk")),
    (4, "text", choice(1, delta={"content": None})),
    (4, "text", lambda events: events[1]["choices"][0].pop("finish_reason")),
    (4, "text", lambda events: events[1]["choices"][0].pop("logprobs")),
    (5, "text", drop(0)),
    (5, "text", insert(1, SAID[0])),
    (5, "two choices", drop(1)),
    (6, "two choices", lambda events: events.insert(0, events.pop(1))),
    (6, "text", insert(1, chunk(ROLE, 1))),
    (6, "text", lambda events: events[1]["choices"].append(events[1]["choices"][0])),
    (6, "a completion", choice(0, index=2)),
    (7, "text", drop(2)),
    (7, "text", insert(3, SAID[2])),
    (7, "text", insert(3, SAID[1])),
    (7, "two choices", drop(-2)),
    (7, "text", choice(1, finish_reason="stop")),
    (7, "text", insert(1, chunk({}))),
    (4, "text", choice(2, finish_reason="eos_token")),
    (4, "text", choice(2, finish_reason="")),
    (4, "a completion", choice(2, finish_reason="tool_calls")),
    (8, "a completion", choice(2, text="b")),
    (9, "usage", drop(-2)),
    (9, "usage", drop(2)),
    (9, "usage", lambda events: events[1].pop("usage")),
    (9, "text", put(1, usage=None)),
    (9, "usage", put(1, usage=usage(5, 1))),
    (9, "usage", put(-2, usage=None)),
    (9, "usage", insert(-1, counted(SAID)[-1])),
    (9, "text", insert(3, {**SAID[0], "choices": [], "usage": usage(5, 3)})),
    (9, "usage all the way", put(1, usage=None)),
    (10, "usage", put(-2, usage=usage(5, 3, total_tokens=9))),
    (10, "usage", put(-2, usage=usage(5, 3, prompt_tokens_details={"cached_tokens": 6}))),
    (10, "usage", put(-2, usage=usage(5, 3, completion_tokens_details={"reasoning_tokens": 4}))),
    (10, "usage all the way", put(1, usage=usage(4, 1))),
    (10, "usage all the way", put(1, usage=usage(5, 9))),
    (11, "calls", choice(2, delta=begun(0, "call_a", ""))),
    (4, "calls", lambda events: events[2]["choices"][0]["delta"]["tool_calls"][0].pop("type")),
    (4, "calls", choice(3, delta=begun(0, "call_a") | {"content": "x"})),
    (12, "calls", drop(2)),
    (12, "calls", choice(4, delta=begun(2, "call_b"))),
    (12, "calls", choice(4, delta=begun(0, "call_b"))),
    (12, "calls", choice(5, delta=more(0, "{}"))),
    (13, "calls", choice(4, delta=begun(1, "call_a"))),
    (13, "calls", choice(4, delta=begun(1, "b"))),
    (4, "calls", choice(3, delta={"tool_calls": [{"index": 0, "function": {"arguments": {}}}]})),
    (15, "calls", choice(-2, finish_reason="stop")),
    (15, "text", choice(2, finish_reason="tool_calls")),
    (15, "a named call", choice(-2, finish_reason="tool_calls")),
    (16, "text", choice(1, logprobs=SCORED)),
    (
        16,
        "scored",
        choice(1, logprobs={**SCORED, "content": [{**TOKEN, "top_logprobs": [TOKEN] * 2}]}),
    ),
    (16, "scored", choice(1, logprobs={"content": [{**TOKEN, "logprob": float("nan")}]})),
    (4, "scored", choice(1, logprobs={**SCORED, "content": [{**TOKEN, "logprob": -99999.0}]})),
    (17, "a completion", choice(0, logprobs=LISTS)),
    (17, "a scored completion", choice(0, logprobs={**LISTS, "tokens": ["a", "b"]})),
    (17, "a scored completion", insert(1, piece("b", logprobs={**LISTS, "text_offset": [3]}))),
]


@pytest.mark.parametrize(
    ("rule", "name", "change"),
    FAULTS,
    ids=[
        f"{rule}-{name}-{number}".replace(" ", "_") for number, (rule, name, _) in enumerate(FAULTS)
    ],
)
def test_each_fault_is_found(rule: int, name: str, change: Callable[[list[Any]], object]) -> None:
    path, request, events = changed(name, change)
    with pytest.raises(BrokenRule, match=rf"^rule {rule}: "):
        check_stream(path, request, text(events))


@pytest.mark.parametrize(
    "stream",
    [
        text([*SAID, DONE])[:-1],
        text([*SAID, DONE]).replace(b"data: ", b"data:"),
        text([*SAID, DONE]).replace(b"\n\n", b"\r\n\r\n"),
        b"event: x\n" + text([*SAID, DONE]),
        text([*SAID, DONE]).replace(b'"a"', '"\u2028"'.encode()),
        b": comment\ndata: {}\n\n" + text([*SAID, DONE]),
    ],
    ids=["no last line end", "no space", "CRLF", "a field more", "a line end", "a half comment"],
)
def test_what_is_no_framing_of_ours_is_a_fault(stream: bytes) -> None:
    with pytest.raises(BrokenRule, match=r"^rule [12]: "):
        check_stream(CHAT, {}, stream)


def test_headers_are_looked_at() -> None:
    good = {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
    }
    StreamRules(CHAT, {}).headers(good)
    for name in good:
        with pytest.raises(BrokenRule, match=r"^rule 1: "):
            StreamRules(CHAT, {}).headers({**good, name: ""})


class _Handler(BaseHTTPRequestHandler):
    """Answers with the stream that the request's last message holds."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        stream = body["messages"][-1]["content"].encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("cache-control", "no-cache")
        self.send_header("x-accel-buffering", "no")
        self.send_header("content-length", str(len(stream)))
        self.end_headers()
        self.wfile.write(stream)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}{CHAT}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_every_client_of_either_library_is_watched(
    url: str, library: Any, stream_watch: StreamWatch
) -> None:
    def asking(events: list[Event]) -> Json:
        return {"messages": [{"role": "user", "content": text(events).decode()}]}

    async def read(events: list[Event]) -> list[str]:
        with library.Client() as client:
            client.post(url, json=asking(events))
        async with library.AsyncClient() as client:
            await client.post(url, json=asking(events))
        return stream_watch.take()

    before = stream_watch.streams
    assert await read([*SAID, DONE]) == []
    assert stream_watch.streams == before + 2
    faults = await read(SAID)
    assert len(faults) == 2
    assert all("rule 2" in fault for fault in faults)
