"""The gateway's routes over HTTP, with a fake engine behind."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import TEXT, write_fake_model
from tests.load_gate import LoadGate
from tests.processes import Gateway, gateway, worker
from tests.sse import chat, chat_text, error_of, events, finish_reasons, stream

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def front(fake_model_dir: Path) -> Iterator[Gateway]:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="2", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address, MAX_BODY_BYTES="100KiB") as started,
    ):
        yield started


def post(front: Gateway, body: Any, path: str = CHAT, **options: Any) -> httpx.Response:
    return httpx.post(front.url + path, json=body, timeout=30, **options)


def test_a_stream_has_openais_frame(front: Gateway) -> None:
    body = chat(max_tokens=6, stream_options={"include_usage": True})
    chunks = list(stream(front.url + CHAT, body))
    *first, usage = chunks
    assert first[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in first[1:])
    assert first[-1]["choices"][0]["delta"] == {}
    assert finish_reasons(chunks) == {0: "length"}
    assert all(chunk["usage"] is None for chunk in first)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6
    assert usage["usage"]["total_tokens"] == usage["usage"]["prompt_tokens"] + 6
    same = ("id", "created", "model", "system_fingerprint", "object")
    assert len({tuple(chunk[key] for key in same) for chunk in chunks}) == 1
    assert TEXT.startswith(chat_text(chunks))


def test_streamed_and_whole_answers_are_equal(front: Gateway) -> None:
    for fields in ({}, {"n": 3}, {"stop": ["fox"]}, {"logprobs": True, "top_logprobs": 2}):
        body = chat(max_tokens=30, **fields)
        chunks = list(stream(front.url + CHAT, body))
        whole = post(front, body).json()
        for choice in whole["choices"]:
            index = choice["index"]
            assert choice["message"]["content"] == chat_text(chunks, index)
            assert choice["finish_reason"] == finish_reasons(chunks)[index]


def test_choices_are_announced_in_order(front: Gateway) -> None:
    chunks = list(stream(front.url + CHAT, chat(max_tokens=2, n=4)))
    assert [chunk["choices"][0]["index"] for chunk in chunks[:4]] == [0, 1, 2, 3]
    assert finish_reasons(chunks) == dict.fromkeys(range(4), "length")


def test_a_stop_string_ends_the_text_before_it(front: Gateway) -> None:
    chunks = list(stream(front.url + CHAT, chat(max_tokens=60, stop=" lazy dog")))
    assert chat_text(chunks) == "The quick brown fox jumps over the"
    assert finish_reasons(chunks) == {0: "stop"}


def test_a_choice_that_met_its_stop_string_leaves_the_batch_at_once(front: Gateway) -> None:
    body = {
        "prompt": ['fake:{"say": "end now", "tokens": 4000}', 'fake:{"say": "x", "tokens": 4000}'],
        "stop": "end",
        "max_tokens": 4000,
    }
    chunks = stream(front.url + "/v1/completions", body)
    ended = next(each for each in chunks if each["choices"][0]["finish_reason"])
    assert ended["choices"][0]["index"] == 0
    deadline = time.monotonic() + 5
    while front.health()["workers"][0]["rows_running"] != 1:  # type: ignore[index]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    chunks.close()  # type: ignore[attr-defined]


def test_completions_take_several_prompts_and_token_ids(front: Gateway) -> None:
    body = {"prompt": ["one", "two"], "n": 2, "max_tokens": 3, "echo": True}
    choices = post(front, body, "/v1/completions").json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["text"][:3] for choice in choices] == ["one", "one", "two", "two"]
    answer = post(front, {"prompt": [[5, 6], [7]]}, "/v1/completions").json()
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 32


def test_completions_stream(front: Gateway) -> None:
    body = {"prompt": "x", "max_tokens": 4, "logprobs": 1}
    chunks = list(stream(front.url + "/v1/completions", body))
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert TEXT.startswith(text)
    tokens = [
        token
        for chunk in chunks
        if (found := chunk["choices"][0]["logprobs"])
        for token in found["tokens"]
    ]
    assert "".join(tokens) == text


def test_the_model_may_be_left_out_when_there_is_one(front: Gateway) -> None:
    assert post(front, chat(max_tokens=1)).json()["model"] == "fake-model"
    assert post(front, chat(max_tokens=1, model="fake-model")).status_code == 200
    assert post(front, chat(max_tokens=1, model=None)).status_code == 200


def test_models_are_listed_and_found(front: Gateway) -> None:
    listed = httpx.get(front.url + "/v1/models").json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["fake-model"]
    model = httpx.get(front.url + "/v1/models/fake-model").json()
    assert {key: model[key] for key in ("object", "owned_by", "state", "loading")} == {
        "object": "model",
        "owned_by": "sluice",
        "state": "ready",
        "loading": None,
    }
    assert httpx.get(front.url + "/v1/models/no/body").json()["error"]["code"] == "model_not_found"


def test_tokenize_and_detokenize_are_inverse(front: Gateway) -> None:
    text = "Grüße, quick fox 🦊"
    ids = post(front, {"prompt": text}, "/tokenize").json()["tokens"]
    assert post(front, {"tokens": ids}, "/detokenize").json() == {"prompt": text}
    counted = post(front, {"messages": [{"role": "user", "content": "hi"}]}, "/tokenize").json()
    answer = post(front, chat("hi", max_tokens=1)).json()
    assert counted["count"] == answer["usage"]["prompt_tokens"]


BAD: list[tuple[Any, str | None]] = [
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    (chat(temperature=3), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(top_p=-1), "top_p"),
    (chat(n=0), "n"),
    (chat(n=1000), "n"),
    (chat(max_tokens=0), "max_tokens"),
    (chat(max_tokens=10**6), "messages"),
    (chat("word " * 20_000), "messages"),
    (chat(top_logprobs=3), "top_logprobs"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(stop=["x"] * 17), "stop"),
    (chat(stop=""), "stop"),
    (chat(logit_bias={"x": 1}), "logit_bias"),
    (chat(logit_bias={"99999": 1}), "logit_bias"),
    (chat(stop_token_ids=[99999]), "stop_token_ids"),
    (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(tools=[{"type": "function", "function": {"name": "f"}}]), "tools"),
    (chat(tools=[], tool_choice="required"), "tool_choice"),
    (chat(response_format={"type": "json_object"}), "response_format"),
    (chat(structured_outputs={"regex": "a"}), "structured_outputs"),
    (chat(reasoning_effort="lots"), "reasoning_effort"),
    (
        chat([{"type": "image_url", "image_url": {"url": "data:,"}}]),  # type: ignore[arg-type]
        "messages[0].content[0].type",
    ),
    (chat(chat_template="{{ 1 }}"), "chat_template"),
    (chat(chat_template_kwargs={"messages": "x"}), "chat_template_kwargs.messages"),
    (chat(colour="red"), "colour"),
]


@pytest.mark.parametrize(("body", "param"), BAD, ids=[str(param) for _, param in BAD])
@pytest.mark.parametrize("streaming", [False, True])
def test_bad_input_is_a_400_that_names_the_field(
    front: Gateway, body: dict[str, Any], param: str | None, streaming: bool
) -> None:
    answer = post(front, {**body, "stream": streaming})
    if param == "stream_options" and streaming:
        assert answer.status_code == 200
        return
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert (error["param"] or "").startswith(param or "")
    assert error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"messages": [}',
        b"\xff\xfe",
        b'{"messages":' + b"[" * 100_00 + b"]" * 100_00 + b"}",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_a_400(front: Gateway, body: bytes) -> None:
    answer = httpx.post(
        front.url + CHAT, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large_is_a_413(front: Gateway) -> None:
    assert post(front, chat("x" * 200_000)).status_code == 413
    chunked = httpx.post(front.url + CHAT, content=(b"x" * 1000 for _ in range(200)))
    assert chunked.status_code == 413


def test_unknown_routes_and_methods_have_openais_errors(front: Gateway) -> None:
    missing = httpx.get(front.url + "/v2/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = httpx.get(front.url + CHAT)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def test_a_safe_request_id_is_kept_and_an_unsafe_one_replaced(front: Gateway) -> None:
    kept = post(front, chat(max_tokens=1), headers={"x-request-id": "abc-1.2:3"})
    assert kept.headers["x-request-id"] == "abc-1.2:3"
    replaced = post(front, chat(max_tokens=1), headers={"x-request-id": "a b\tc"})
    assert replaced.headers["x-request-id"].startswith("req-")
    assert post(front, {}).headers["x-request-id"]


def raw(front: Gateway, data: bytes, seconds: float = 5.0) -> bytes:
    host, port = front.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        received = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            while piece := connection.recv(65536):
                received += piece
        return received


def test_a_bomb_of_headers_is_refused(front: Gateway) -> None:
    for bomb in (b"GET / HTTP/1.1\r\nx: " + b"y" * 2_000_000, b"GET /" + b"y" * 2_000_000):
        assert raw(front, bomb).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431")) or not raw(
            front, bomb
        )


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%ff%fe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
    ],
)
def test_broken_http_is_a_4xx(front: Gateway, data: bytes) -> None:
    assert raw(front, data).startswith(b"HTTP/1.1 4")


def test_metrics_tell_of_first_tokens_and_rejections(front: Gateway) -> None:
    post(front, chat(max_tokens=2))
    post(front, {})
    text = httpx.get(front.url + "/metrics").text
    assert 'sluice_time_to_first_token_seconds_count{model_name="fake-model"}' in text
    assert 'sluice_requests_rejected_total{reason="missing_required_parameter"}' in text
    assert 'sluice_workers{model_name="fake-model",state="ready"} 1.0' in text
    assert 'sluice_http_requests_total{route="/v1/chat/completions",status="200"}' in text


def test_health_tells_of_models_and_workers(front: Gateway) -> None:
    answer = httpx.get(front.url + "/health")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "ok")
    assert body["models"][0]["id"] == "fake-model"
    assert body["models"][0]["state"] == "ready"
    assert body["workers"][0]["state"] == "ready"
    assert httpx.get(front.url + "/health/ready").status_code == 200


def test_an_idle_stream_gets_keep_alive_comments(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake") as fake,
        gateway(fake.address, KEEPALIVE_SECONDS="0.1") as front,
    ):
        body = {"stream": True, **chat('fake:{"delay_ms": 600, "say": "hello"}')}
        with httpx.stream("POST", front.url + CHAT, json=body, timeout=10) as response:
            seen = list(events(response.iter_lines()))
        assert seen.count(": keep-alive") >= 3
        assert "hello" in chat_text([event for event in seen if not isinstance(event, str)])


def test_a_model_that_loads_is_a_503_that_says_so(fake_model_dir: Path, tmp_path: Path) -> None:
    gate = LoadGate(tmp_path)
    with (
        worker(fake_model_dir, **gate.environment) as fake,
        gateway(fake.address, wait=False) as front,
    ):
        deadline = time.monotonic() + 30
        while not front.health()["models"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        answer = post(front, chat())
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "model_loading"
        assert int(answer.headers["retry-after"]) > 0
        assert httpx.get(front.url + "/health").status_code == 503
        assert httpx.get(front.url + "/health/ready").status_code == 200
        gate.open()
        front.wait_ready()
        assert post(front, chat(max_tokens=1)).status_code == 200


def test_too_many_requests_are_a_429_at_once(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="20", BATCH_MAX="2") as fake,
        gateway(fake.address, QUEUE_MAX="1") as front,
    ):
        running = [stream(front.url + CHAT, chat(max_tokens=200)) for _ in range(3)]
        for chunks in running:
            next(chunks)
        refused = post(front, chat())  # while all three still run: it did not wait
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert int(refused.headers["retry-after"]) > 0
        assert all(error_of(list(chunks)) is None for chunks in running)
        assert post(front, chat(max_tokens=1)).status_code == 200


def test_two_models_are_told_apart_by_name(tmp_path: Path) -> None:
    one, two = (write_fake_model(tmp_path / name) for name in ("one", "two"))
    with (
        worker(one, ENGINE="fake", FAKE_TEXT="I am one.") as first,
        worker(two, ENGINE="fake", FAKE_TEXT="I am two.") as second,
        gateway(first.address, second.address, wait=False) as front,
    ):
        front.wait_ready(models=2)
        for name in ("one", "two"):
            answer = post(front, chat(model=name, max_tokens=20)).json()
            assert answer["choices"][0]["message"]["content"].startswith(f"I am {name}.")
        unnamed = post(front, chat())
        assert unnamed.status_code == 400
        assert unnamed.json()["error"]["param"] == "model"
        assert "one, two" in unnamed.json()["error"]["message"]
        assert post(front, chat(model="three")).status_code == 404


def test_api_keys_are_asked_for_and_reread(fake_model_dir: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-one # of the first team\n")
    with (
        worker(fake_model_dir, ENGINE="fake") as fake,
        gateway(fake.address, API_KEYS_FILE=str(keys)) as front,
    ):

        def status(key: str | None) -> int:
            headers = {"authorization": f"Bearer {key}"} if key else {}
            return post(front, chat(max_tokens=1), headers=headers).status_code

        assert status(None) == 401
        assert status("sk-two") == 401
        assert status("sk-one") == 200
        assert httpx.get(front.url + "/v1/models").status_code == 401
        assert httpx.get(front.url + "/health").status_code == 200
        (tmp_path / "new").write_text("sk-two\n")
        (tmp_path / "new").rename(keys)
        assert status("sk-two") == 200
        assert status("sk-one") == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [("GATEWAY_ADDRESS", "nowhere"), ("WORKER_ADDRESSES", "a,b"), ("QUEUE_MAX", "-1")],
)
def test_a_wrong_setting_is_one_line_and_status_2(name: str, value: str) -> None:
    import subprocess
    import sys

    ended = subprocess.run(
        [sys.executable, "-m", "sluice_gateway"],
        env={"PATH": "", name: value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert name in ended.stderr
    assert json.dumps(value).strip('"') in ended.stderr
