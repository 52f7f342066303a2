"""A model on its way is told of alike in errors, /health, /v1/models and metrics."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.errors import ModelFailed, ModelLoading
from sluice_gateway.loading import CONNECTING, Loading

from tests.processes import Gateway, gateway, worker
from tests.scripted_worker import scripted_worker, until_told
from tests.sse import chat

CHAT = "/v1/chat/completions"
MB = 10**6
HELLO: Any = {"role": "user", "content": "hello"}

DOWNLOADING = {"bytes_done": 12_300_000, "bytes_total": 30 * MB, "bytes_per_second": MB}


def loading(state: str = "downloading", **fields: Any) -> Loading:
    return Loading.of(state, pb.Status(**fields))


def test_a_status_without_numbers_has_none() -> None:
    assert loading("resolving").as_json() == {
        "state": "resolving",
        "bytes_done": None,
        "bytes_total": None,
        "bytes_per_second": None,
        "eta_seconds": None,
        "file": None,
        "message": None,
    }


def test_zero_bytes_of_a_known_total_are_zero() -> None:
    told = loading(bytes_total=30, eta_seconds=0).as_json()
    assert (told["bytes_done"], told["bytes_per_second"], told["eta_seconds"]) == (0, 0, 0)


def test_what_a_lost_worker_said_last_is_not_told() -> None:
    assert loading("lost", message="x", **DOWNLOADING) == Loading("lost")


@pytest.mark.parametrize(
    ("state", "fields", "seconds"),
    [
        ("downloading", {"eta_seconds": 18}, 18),
        ("downloading", {"eta_seconds": 0}, 1),
        ("downloading", {"eta_seconds": 90_000}, 3600),
        ("downloading", {}, 5),
        ("verifying", {"eta_seconds": 7}, 7),
        ("loading", {}, 2),
        ("connecting", {}, 2),
    ],
)
def test_retry_after_is_the_eta_within_bounds(
    state: str, fields: dict[str, int], seconds: int
) -> None:
    told = loading(state, **fields)
    assert told.retry_after == seconds
    assert ModelLoading("m", told).headers == {"Retry-After": str(seconds)}


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (
            loading(**DOWNLOADING, eta_seconds=18),
            "The model `m` is downloading: 12.3 of 30.0 MB (41 %), about 18 s left.",
        ),
        (
            loading(**DOWNLOADING, message="trying again;\n wait"),
            "The model `m` is downloading: 12.3 of 30.0 MB (41 %). Trying again; wait.",
        ),
        (
            loading("verifying", bytes_done=3, bytes_total=15 * 10**9, eta_seconds=725),
            "The model `m` is being verified: 0.0 of 15.0 GB (0 %), about 12 min left.",
        ),
        (
            loading(bytes_done=999, bytes_total=1000 * 10**12, eta_seconds=500_000),
            "The model `m` is downloading: 0.0 of 1000.0 TB (0 %), about 138.9 h left.",
        ),
        (loading(bytes_done=2000), "The model `m` is downloading: 2.0 kB so far."),
        (loading(bytes_done=9, bytes_total=8), "The model `m` is downloading: 9 of 8 B (100 %)."),
        (loading("warming"), "The model `m` is warming up."),
        (Loading("state 99"), "The model `m` is not ready yet: state 99."),
        (CONNECTING, "No worker has been reached yet."),
    ],
)
def test_the_message_is_a_sentence_with_numbers(told: Loading, sentence: str) -> None:
    assert told.sentence("m") == sentence


def test_the_furthest_on_is_that_of_the_later_state_and_then_of_the_larger_share() -> None:
    in_order = [
        Loading("failed"),
        Loading("lost"),
        CONNECTING,
        loading("resolving"),
        loading(bytes_done=5, bytes_total=100),
        loading(bytes_done=2, bytes_total=10),
        loading("verifying"),
        loading("loading"),
        loading("warming"),
        Loading("preparing"),
        Loading("ready"),
    ]
    assert all(one.progress < next_.progress for one, next_ in pairwise(in_order))


def test_a_failure_is_one_line_and_clients_do_not_try_again() -> None:
    failed = ModelFailed("m", "gated:\n set HF_TOKEN")
    assert failed.message == "The model `m` failed to load: gated: set HF_TOKEN"
    assert (failed.status, failed.code) == (503, "model_failed")
    assert failed.headers == {"x-should-retry": "false"}


async def told_everywhere(front: Gateway, name: str = "m") -> list[Any]:
    """What the 503, /health and both routes of /v1/models tell of the model's loading."""
    async with httpx.AsyncClient(base_url=front.url) as client:
        refused = await client.post(CHAT, json=chat(model=name))
        health = (await client.get("/health")).json()
        listed = (await client.get("/v1/models")).json()["data"]
        model = await client.get(f"/v1/models/{name}")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "model_loading"
    assert model.status_code == 200
    assert model.json() in listed
    error, (of_model,), (of_worker,) = refused.json()["error"], health["models"], health["workers"]
    assert of_model["state"] == of_worker["state"] == model.json()["state"]
    return [each["loading"] for each in (error, of_model, of_worker, model.json())]


async def until_bytes(front: Gateway, done: int) -> None:
    def tells(body: Any) -> bool:
        return [each["loading"]["bytes_done"] for each in body["models"]] == [done]

    await until_told(front.url + "/health", tells)


async def test_numbers_move_and_are_told_alike_everywhere(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as scripted:
        with gateway(scripted.address, wait=False) as front:
            for done in (1, 2, 3):
                scripted.say(
                    "downloading",
                    bytes_done=done * MB,
                    bytes_total=30 * MB,
                    bytes_per_second=MB,
                    eta_seconds=30 - done,
                    file="model.safetensors",
                )
                await until_bytes(front, done * MB)
                told = await told_everywhere(front)
                assert told == 4 * [
                    {
                        "state": "downloading",
                        "bytes_done": done * MB,
                        "bytes_total": 30 * MB,
                        "bytes_per_second": MB,
                        "eta_seconds": 30 - done,
                        "file": "model.safetensors",
                        "message": None,
                    }
                ]
            async with httpx.AsyncClient(base_url=front.url) as client:
                refused = await client.post(CHAT, json=chat())
                metrics = (await client.get("/metrics")).text
            assert refused.headers["retry-after"] == "27"
            assert 'sluice_workers{model_name="m",state="downloading"} 1.0' in metrics


async def test_the_official_client_sees_the_numbers(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as scripted:
        scripted.say("downloading", message="trying again", eta_seconds=18, **DOWNLOADING)
        with gateway(scripted.address, wait=False) as front:
            await until_told(front.url + "/health", lambda body: body["models"])
            base_url = front.url + "/v1"
            async with AsyncOpenAI(base_url=base_url, api_key="x", max_retries=0) as client:
                with pytest.raises(openai.InternalServerError) as caught:
                    await client.chat.completions.create(model="m", messages=[HELLO])
                error = caught.value
                assert error.status_code == 503
                assert error.code == "model_loading"
                assert isinstance(error.body, dict)
                assert error.body["loading"]["bytes_done"] == 12_300_000
                assert error.body["loading"]["message"] == "trying again"
                (listed,) = [model async for model in client.models.list()]
                assert listed.id == "m"
                assert listed.to_dict()["state"] == "downloading"
                found = await client.models.retrieve("m")
                assert isinstance(found.created, int)


async def test_a_failed_model_is_told_of_in_one_line(fake_model_dir: Path) -> None:
    reason = "org/model is gated: accept its terms on the hub and set HF_TOKEN."
    async with scripted_worker(fake_model_dir) as scripted:
        scripted.say("failed", message=reason)
        with gateway(scripted.address, wait=False) as front:

            async def told() -> None:
                async with httpx.AsyncClient(base_url=front.url) as client:
                    answer = await client.post(CHAT, json=chat(), headers={"x-sluice-wait": "30"})
                    health = (await client.get("/health")).json()
                    model = (await client.get("/v1/models/m")).json()
                assert answer.status_code == 503
                assert "retry-after" not in answer.headers
                assert answer.json()["error"]["code"] == "model_failed"
                message = answer.json()["error"]["message"]
                assert message == f"The model `m` failed to load: {reason}"
                for each in (health["models"][0], health["workers"][0], model):
                    assert (each["state"], each["message"]) == ("failed", reason)
                    assert each["loading"] is None

            await until_told(front.url + "/health", lambda body: body["models"])
            await told()
            scripted.break_sessions.set()  # its process goes down, and comes up again
            await asyncio.sleep(1)
            await told()


async def test_a_model_is_as_far_as_the_furthest_on_of_its_workers(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as one, scripted_worker(fake_model_dir) as two:
        one.say("downloading", **DOWNLOADING)
        two.say("failed", message="no space")
        with gateway(one.address, two.address, wait=False) as front:

            async def until_model(state: str) -> Any:
                health = await until_told(
                    front.url + "/health",
                    lambda body: (
                        [model["state"] for model in body["models"]] == [state]
                        and body["models"][0]["workers"] == 2
                    ),
                )
                return health["models"][0]

            assert (await until_model("downloading"))["loading"]["bytes_done"] == 12_300_000
            two.say("loading", bytes_done=1, bytes_total=10)
            assert (await until_model("loading"))["loading"]["bytes_done"] == 1
            two.say("ready")
            ready = await until_model("ready")
            assert (ready["workers_ready"], ready["loading"]) == (1, None)
            async with httpx.AsyncClient(base_url=front.url) as client:
                assert (await client.post("/tokenize", json={"prompt": "a"})).status_code == 200
                (model,) = (await client.get("/v1/models")).json()["data"]
            assert (model["state"], model["loading"]) == ("ready", None)


async def test_workers_that_are_away_are_no_model_on_its_way(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as scripted:
        scripted.say("draining")
        with gateway(scripted.address, wait=False) as front:
            await until_told(front.url + "/health", lambda body: body["models"])
            async with httpx.AsyncClient(base_url=front.url) as client:
                answer = await client.post(CHAT, json=chat())
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "unavailable"
            assert "shutting down" in answer.json()["error"]["message"]
            assert answer.headers["retry-after"]


def test_before_any_worker_is_heard_every_model_is_on_its_way() -> None:
    with gateway("127.0.0.1:1", wait=False) as front:
        for answer in (
            httpx.post(front.url + CHAT, json=chat()),
            httpx.post(front.url + CHAT, json=chat(model="m")),
            httpx.get(front.url + "/v1/models/m"),
        ):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "model_loading"
            assert answer.json()["error"]["loading"]["state"] == "connecting"
            assert answer.headers["retry-after"] == "2"
        (told,) = front.health()["workers"]  # type: ignore[misc]
        assert told["loading"]["state"] == "connecting"


def test_one_ready_worker_serves_while_another_loads(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake") as one,
        worker(fake_model_dir, ENGINE="fake", FAKE_LOAD_MS="60000") as two,
        gateway(one.address, two.address) as front,
    ):
        deadline = time.monotonic() + 10
        while any(each["state"] == "connecting" for each in front.health()["workers"]):  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for _ in range(4):
            assert httpx.post(front.url + CHAT, json=chat(max_tokens=1)).status_code == 200
        states = sorted(each["state"] for each in front.health()["workers"])  # type: ignore[attr-defined]
        assert states == ["loading", "ready"]
