"""The gateway's log: one line for each request, for people or for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat, stream

CHAT = "/v1/chat/completions"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def fake(fake_model_dir: Path) -> Iterator[Worker]:
    with worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="2") as started:
        yield started


@pytest.fixture(scope="module")
def front(fake: Worker) -> Iterator[Gateway]:
    with gateway(fake.address, LOG_FORMAT="json") as started:
        yield started


def line_of(front: Gateway, request_id: str) -> Json:
    """The one line of that request, once it is there."""
    front.process.wait_for(f'"request_id": "{request_id}"', 10)
    lines = [json.loads(line) for line in front.process.log]
    (found,) = (line for line in lines if line.get("request_id") == request_id)
    return dict(found)


def ask(front: Gateway, request_id: str, body: Json) -> httpx.Response:
    headers = {"x-request-id": request_id}
    return httpx.post(front.url + CHAT, json=body, headers=headers, timeout=30)


def test_an_answer_has_one_line_with_all_that_is_known_of_it(front: Gateway) -> None:
    answer = ask(front, "one-line", chat(max_tokens=9, n=2)).json()
    line = line_of(front, "one-line")
    assert line["message"] == f"POST {CHAT} 200"
    assert line["level"] == "INFO"
    assert line["logger"] == "sluice_gateway.requests"
    assert line["model"] == answer["model"]
    assert line["worker"]
    assert line["choices"] == 2
    assert line["stream"] is False
    assert line["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    assert line["completion_tokens"] == 18
    assert line["finish_reason"] == "length,length"
    assert line["batch_size"] == 2
    parts = line["gateway_seconds"] + line["queue_seconds"] + line["prefill_seconds"]
    assert parts == pytest.approx(line["time_to_first_token"], abs=1e-4)
    assert line["time_to_first_token"] <= line["seconds"]
    assert "error" not in line
    assert line["time"].endswith(("Z", "+00:00"))


def test_no_line_holds_what_was_said(front: Gateway) -> None:
    secret = "swordfish"
    ask(front, "secret", chat(f"The word is {secret}", max_tokens=5))
    ask(front, "secret-refused", chat(secret, max_tokens=0))
    line_of(front, "secret")
    line_of(front, "secret-refused")
    assert secret not in front.process.text()


@pytest.mark.parametrize(
    ("name", "fields", "status", "code", "param"),
    [
        ("refused", {"temperature": 9}, 400, "invalid_value", "temperature"),
        ("unknown", {"model": "other"}, 404, "model_not_found", "model"),
    ],
)
def test_a_refusal_says_why(
    front: Gateway, name: str, fields: Json, status: int, code: str, param: str
) -> None:
    assert ask(front, name, chat(**fields)).status_code == status
    line = line_of(front, name)
    assert (line["status"], line["error"], line["param"]) == (status, code, param)
    assert "other" not in json.dumps(line)


def test_an_error_within_a_stream_is_told_beside_its_200(front: Gateway) -> None:
    body = chat('fake:{"tokens": 3, "end": "error"}')
    list(stream(front.url + CHAT, body, headers={"x-request-id": "broken"}))
    line = line_of(front, "broken")
    assert (line["status"], line["error"]) == (200, "internal_error")
    assert line["completion_tokens"] == 3


def test_a_client_that_leaves_is_told_of(front: Gateway) -> None:
    chunks = stream(front.url + CHAT, chat(max_tokens=3000), headers={"x-request-id": "left"})
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]
    assert line_of(front, "left")["client_left"] is True


def test_for_people_the_fields_stand_behind_the_message(fake: Worker) -> None:
    with gateway(fake.address) as front:
        ask(front, "people", chat(max_tokens=2))
        front.process.wait_for(
            r"INFO sluice_gateway.requests: POST /v1/chat/completions 200 request_id=people"
            r".* worker=\S+ .*completion_tokens=2 .*finish_reason=length",
            10,
        )


def test_what_was_said_is_logged_when_the_operator_asks(fake: Worker) -> None:
    with gateway(fake.address, LOG_FORMAT="json", LOG_PROMPTS="true") as front:
        answer = ask(front, "said", chat("The word is swordfish", max_tokens=4)).json()
        line = line_of(front, "said")
        assert "The word is swordfish" in line["prompts"][0]
        assert line["answers"] == [answer["choices"][0]["message"]["content"]]


def test_every_line_is_json_a_fault_too(fake: Worker) -> None:
    with gateway(fake.address, LOG_FORMAT="json", LOG_LEVEL="DEBUG") as front:
        ask(front, "json", chat(max_tokens=2))
        line_of(front, "json")
        assert all(json.loads(line)["message"] for line in front.process.log)
