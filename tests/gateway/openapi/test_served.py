"""The document over HTTP, and real answers as it describes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from tests.conftest import TEXT
from tests.processes import Gateway, gateway, worker
from tests.sse import chat, stream

KEY = {"authorization": "Bearer secret"}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def front(fake_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("secret\n")
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="0", FAKE_TEXT=TEXT) as fake,
        gateway(fake.address, API_KEYS_FILE=str(keys), MAX_BODY_BYTES="10KiB") as started,
    ):
        yield started


@pytest.fixture(scope="module")
def told(front: Gateway) -> Document:
    document: Document = httpx.get(front.url + "/openapi.json", headers=KEY).json()
    return document


def check(told: Document, response: httpx.Response, method: str, path: str) -> None:
    """The answer is one that the document has at that path, headers included."""
    responses = told["paths"][path][method]["responses"]
    assert str(response.status_code) in responses, response.text
    found = responses[str(response.status_code)]
    media_type = response.headers["content-type"].partition(";")[0]
    assert "x-request-id" in response.headers
    if media_type == "application/json":
        schema = {**found["content"][media_type]["schema"], "components": told["components"]}
        Draft202012Validator(schema).validate(response.json())
    else:
        assert media_type in found["content"]


def test_the_document_needs_a_key_where_there_are_keys(front: Gateway) -> None:
    assert httpx.get(front.url + "/openapi.json").status_code == 401
    with httpx.Client(base_url=front.url, headers=KEY) as client:
        told = client.get("/openapi.json")
        assert told.headers["content-type"] == "application/json"
        assert told.json()["openapi"] == "3.1.0"
        assert client.post("/openapi.json").status_code == 405


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/health", "/health/live", "/health/ready", "/metrics", "/openapi.json"],
)
def test_what_is_told_of_models_and_workers_is_as_described(
    front: Gateway, told: Document, path: str
) -> None:
    response = httpx.get(front.url + path, headers=KEY)
    assert response.status_code == 200
    check(told, response, "get", path)


@pytest.mark.parametrize(("name", "status"), [("fake-model", 200), ("no/body", 404)])
def test_one_model_is_as_described(front: Gateway, told: Document, name: str, status: int) -> None:
    response = httpx.get(f"{front.url}/v1/models/{name}", headers=KEY)
    assert response.status_code == status
    check(told, response, "get", "/v1/models/{model}")


USER = {"role": "user", "content": "hi"}
EVERYTHING = {"n": 2, "max_tokens": 5, "return_token_ids": True, "service_tier": "auto"}
ASKED: list[tuple[str, dict[str, Any], int]] = [
    ("/v1/chat/completions", {"messages": [USER], "max_tokens": 5}, 200),
    (
        "/v1/chat/completions",
        {"messages": [USER], "logprobs": True, "top_logprobs": 2, **EVERYTHING},
        200,
    ),
    ("/v1/completions", {"prompt": "a"}, 200),
    ("/v1/completions", {"prompt": ["a", "b"], "logprobs": 2, **EVERYTHING}, 200),
    ("/tokenize", {"prompt": "a"}, 200),
    ("/detokenize", {"tokens": [5, 6]}, 200),
    ("/v1/chat/completions", {"messages": [USER], "max_tokens": 10**6}, 400),
    ("/v1/chat/completions", {"messages": [USER], "stream": True, "seed": "x"}, 400),
    ("/v1/completions", {"prompt": "a", "model": "nobody"}, 404),
    ("/tokenize", {"prompt": "a" * 20_000}, 413),
    ("/detokenize", {"tokens": "5"}, 400),
]


@pytest.mark.parametrize(("path", "body", "status"), ASKED, ids=str)
def test_answers_and_errors_are_as_described(
    front: Gateway, told: Document, path: str, body: dict[str, Any], status: int
) -> None:
    response = httpx.post(front.url + path, json=body, headers=KEY)
    assert response.status_code == status, response.text
    check(told, response, "post", path)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_a_key_that_is_missing_is_as_described(front: Gateway, told: Document, path: str) -> None:
    response = httpx.post(front.url + path, json={})
    assert response.status_code == 401
    check(told, response, "post", path)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat(logprobs=True, top_logprobs=1, **EVERYTHING)),
        ("/v1/chat/completions", chat(max_tokens=5, stream_options={"include_usage": True})),
        ("/v1/completions", {"prompt": "a", "stream": True, "logprobs": 1, **EVERYTHING}),
    ],
    ids=str,
)
def test_the_events_of_a_stream_are_as_described(
    front: Gateway, told: Document, path: str, body: dict[str, Any]
) -> None:
    success = told["paths"][path]["post"]["responses"]["200"]
    event = success["content"]["text/event-stream"]["schema"]["properties"]["data"]
    last, data = event["anyOf"]
    assert last == {"const": "[DONE]"}
    schema = {**data["contentSchema"], "components": told["components"]}
    validator = Draft202012Validator(schema)
    chunks = list(stream(front.url + path, body, headers=KEY))
    assert chunks
    for chunk in chunks:
        validator.validate(chunk)


def test_a_model_on_its_way_is_as_described() -> None:
    with gateway("127.0.0.1:1", wait=False) as alone:
        told = httpx.get(alone.url + "/openapi.json").json()
        response = httpx.post(alone.url + "/v1/chat/completions", json={"messages": [USER]})
        assert response.status_code == 503
        assert response.json()["error"]["loading"]["state"] == "connecting"
        check(told, response, "post", "/v1/chat/completions")
        health = httpx.get(alone.url + "/health")
        assert health.status_code == 503
        check(told, health, "get", "/health")
