"""The first download, as a user meets it: a slow hub, a real model, nothing looks stuck."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from openai import InternalServerError, OpenAI

from tests import hub
from tests.e2e.first_download_model import write_model
from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat

MODEL = "org/thirty"
SERVICE = "sluice.worker.v1.WorkerService"
STATES = ["resolving", "downloading", "verifying", "loading", "warming", "ready"]
ALIVE = health_pb2.HealthCheckResponse.SERVING

pytestmark = pytest.mark.xdist_group("first-download")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "thirty")


@dataclass
class Download:
    """A worker that has just begun to download, and a gateway before it."""

    hub: hub.Hub
    worker: Worker
    gateway: Gateway
    began: float

    def refusal(self) -> httpx.Response:
        url = f"{self.gateway.url}/v1/chat/completions"
        return httpx.post(url, json=chat("Hi", max_tokens=4))


@pytest.fixture
def download(model_dir: Path, tmp_path: Path) -> Iterator[Download]:
    with (
        hub.serving({MODEL: model_dir}) as served,
        gateway("127.0.0.1:1", wait=False),  # so that Python's files are in memory
    ):
        served.faults.bytes_per_second = 1e6
        environment = hub.environment(served, tmp_path / "cache")
        with worker(MODEL, **environment) as started:
            began = time.monotonic()
            with gateway(started.address, wait=False) as front:
                yield Download(served, started, front, began)


def loading(response: httpx.Response) -> dict[str, object]:
    """What a 503 says of how far the model is."""
    assert response.status_code == 503, response.text
    error = response.json()["error"]
    assert error["code"] == "model_loading", error
    told: dict[str, object] = error["loading"]
    return told


def wait_until_downloading(download: Download) -> dict[str, object]:
    """The first 503 that has figures: none of the ones before it looks stuck or broken."""
    while True:
        response = download.refusal()
        assert response.status_code == 503, response.text
        error = response.json()["error"]
        if error.get("loading", {}).get("bytes_done"):
            told: dict[str, object] = error["loading"]
            return told
        time.sleep(0.05)


def probe(address: str, service: str) -> int:
    """As the kubelet does it: a connection of its own."""
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        status: int = answer.status
        return status


def test_a_first_download_is_visible_everywhere_and_ends_in_answers(download: Download) -> None:
    first = wait_until_downloading(download)
    assert first["state"] == "downloading"
    assert first["bytes_total"] == sum(download.hub.sizes(MODEL).values())

    waited: list[str] = []
    waiting = threading.Thread(target=lambda: waited.extend(stream_with_patience(download)))
    waiting.start()

    states = set()
    told = [int(str(first["bytes_done"]))]
    while not (ready := probe(download.worker.address, SERVICE) == ALIVE):
        assert probe(download.worker.address, "") == ALIVE
        assert httpx.get(f"{download.gateway.url}/health/live").status_code == 200
        assert httpx.get(f"{download.gateway.url}/health/ready").status_code == 200
        response = download.refusal()
        if response.status_code == 200:
            break
        figures = loading(response)
        states.add(figures["state"])
        if figures["state"] == "downloading":
            told.append(int(str(figures["bytes_done"])))
            assert 1 <= int(response.headers["Retry-After"]) <= 120
        health = download.gateway.health()
        model = health["models"][0]  # type: ignore[index]
        assert model["state"] == "ready" or model["loading"]["state"] == model["state"]
        time.sleep(0.2)
    assert ready or response.status_code == 200
    assert told == sorted(told)
    assert len(set(told)) > 20
    # Reading so small a model may fall between two looks; the log has every state, in order.
    assert "downloading" in states
    assert states <= set(STATES)
    assert logged_states(download.worker) == STATES

    download.gateway.wait_ready()
    answer = httpx.post(
        f"{download.gateway.url}/v1/chat/completions", json=chat("Hi", max_tokens=4), timeout=30
    )
    assert answer.status_code == 200

    waiting.join(60)
    comments = [line for line in waited if line.startswith(": model_loading")]
    chunks = [line for line in waited if line.startswith("data: {")]
    assert len(comments) > 5
    assert json.loads(chunks[-1].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
    assert waited[-1] == "data: [DONE]"

    sent = download.hub.sent
    assert dict(sent).items() >= download.hub.sizes(MODEL).items()


def logged_states(started: Worker) -> list[str]:
    """The states that the worker's log says it went through."""
    started.process.wait_for(r"lifecycle_log.*\bready\b")
    pattern = rf"lifecycle_log\W+({'|'.join(STATES)})(?=:|$)"
    return re.findall(pattern, started.process.text(), re.MULTILINE)


def stream_with_patience(download: Download) -> list[str]:
    """One streaming request that waits for the model, on one connection."""
    body = chat("Hi", max_tokens=4, stream=True)
    with httpx.stream(
        "POST",
        f"{download.gateway.url}/v1/chat/completions",
        json=body,
        headers={"x-sluice-wait": "300"},
        timeout=300,
    ) as response:
        assert response.status_code == 200
        return [line for line in response.iter_lines() if line]


def test_the_official_client_sees_how_far_it_is(download: Download) -> None:
    wait_until_downloading(download)
    client = OpenAI(base_url=f"{download.gateway.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.code == "model_loading"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["loading"]["bytes_total"] > 30_000_000
    listed = client.models.list().data[0]
    assert listed.id == MODEL
    assert listed.state == "downloading"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model_id", "faults", "settings", "reason"),
    [
        ("org/wrong", {}, {}, "check MODEL_ID"),
        (MODEL, {"token": "secret"}, {}, "gated"),
        (MODEL, {"status": 500}, {"DOWNLOAD_STALL_SECONDS": "2"}, "error (500)"),
        (MODEL, {}, {"HF_ENDPOINT": "http://127.0.0.1:1"}, "cannot be reached"),
    ],
)
def test_what_goes_wrong_is_one_line_in_the_log_in_health_and_in_the_503(
    model_dir: Path,
    tmp_path: Path,
    model_id: str,
    faults: dict[str, object],
    settings: dict[str, str],
    reason: str,
) -> None:
    with hub.serving({MODEL: model_dir}) as served:
        for name, value in faults.items():
            setattr(served.faults, name, value)
        environment = {**hub.environment(served, tmp_path / "cache"), **settings}
        with (
            worker(model_id, **environment) as started,
            gateway(started.address, wait=False) as front,
        ):
            assert_told_everywhere(started, front, reason)


def test_a_volume_that_is_too_small_is_told_everywhere_too(
    model_dir: Path, small_volume: Path
) -> None:
    with hub.serving({MODEL: model_dir}) as served:
        environment = hub.environment(served, small_volume)
        with (
            worker(MODEL, **environment) as started,
            gateway(started.address, wait=False) as front,
        ):
            assert_told_everywhere(started, front, "make room")
            assert not served.downloads("model.safetensors")


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mounting, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def assert_told_everywhere(started: Worker, front: Gateway, reason: str) -> None:
    """The log, /health and the 503 say ``reason``, in one line each."""
    deadline = time.monotonic() + 30
    health = refusal = ""
    while time.monotonic() < deadline and not (reason in health and reason in refusal):
        health = json.dumps(front.health())
        response = httpx.post(f"{front.url}/v1/chat/completions", json=chat("Hi"))
        assert response.status_code == 503
        refusal = response.json()["error"]["message"]
        time.sleep(0.05)
    assert reason in health
    assert reason in refusal
    assert "\n" not in refusal
    started.process.wait_for(f"(WARNING|ERROR).*{re.escape(reason)}")
