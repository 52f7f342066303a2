"""What ``make run`` starts, as a newcomer meets it."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.engines import READY_SECONDS, worker_environment
from tests.processes import Process, process
from tests.sse import chat

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("make-run")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Running:
    """``scripts/run.py`` under way, on ports of its own."""

    def __init__(self, script: Process, url: str, metrics_url: str) -> None:
        self.script = script
        self.url = url
        self.metrics_url = metrics_url


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    gateway, worker, metrics = (f"127.0.0.1:{free_port()}" for _ in range(3))
    environment = {
        "GATEWAY_ADDRESS": gateway,
        "WORKER_ADDRESS": worker,
        "METRICS_ADDRESS": metrics,
        **worker_environment(),
    }
    with process([sys.executable, str(ROOT / "scripts/run.py")], environment) as script:
        script.wait_for("is ready at", READY_SECONDS)
        yield Running(script, f"http://{gateway}", f"http://{metrics}/metrics")


def test_the_readmes_curl_streams_a_greeting(running: Running) -> None:
    body = '{"messages":[{"role":"user","content":"Say hello"}],"max_tokens":8,"stream":true}'
    ended = subprocess.run(
        [
            *("curl", "-N", "-s", "-X", "POST", f"{running.url}/v1/chat/completions"),
            *("-H", "content-type: application/json", "-d", body),
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert ended.stdout.endswith("data: [DONE]\n\n")
    text = "".join(re.findall(r'"content":"([^"]*)"', ended.stdout))
    assert re.match(r"(Hello|Hi|Hey)\b", text), text


def test_health_shows_the_model_ready(running: Running) -> None:
    body = httpx.get(f"{running.url}/health").json()
    assert [(model["id"], model["state"]) for model in body["models"]] == [("sluice-demo", "ready")]


LONGEST = "Count from 1 to 100"
QUESTIONS = [
    "Say hello",
    "What is Sluice?",
    "What is 7 plus 5?",
    LONGEST,
    "Who are you?",
    "Tell me a story",
    "How do I install Sluice?",
    "Thank you very much!",
]


async def answer(client: httpx.AsyncClient, question: str) -> tuple[str, str]:
    """The text and the finish reason."""
    body = chat(question, temperature=0, max_tokens=400)
    got = await client.post("/v1/chat/completions", json=body)
    choice = got.json()["choices"][0]
    return choice["message"]["content"], choice["finish_reason"]


async def test_32_clients_get_what_each_gets_alone_and_are_batched(running: Running) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=running.url, timeout=60, limits=limits) as client:
        alone = {question: await answer(client, question) for question in QUESTIONS}
        # Short answers may end before the last client has asked: eleven long ones overlap.
        asked = QUESTIONS * 3 + [LONGEST] * 8
        together = await asyncio.gather(*(answer(client, question) for question in asked))
        text = (await client.get(running.metrics_url)).text
    for question, got in zip(asked, together, strict=True):
        assert got == alone[question], question
        assert got[1] == "stop", f"the turn did not end: {got}"
    found = re.search(r'sluice_batch_size_bucket\{le="8.0".*\} (\S+)', text)
    assert found is not None
    count = re.search(r"sluice_batch_size_count\{.*\} (\S+)", text)
    assert count is not None
    assert float(count[1]) > float(found[1]), "no step had more than 8 rows"


def test_a_conversation_of_several_turns_is_answered(running: Running) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    for follow_up in ("What can you do?", "Thank you"):
        got = httpx.post(
            f"{running.url}/v1/chat/completions",
            json={"messages": messages, "temperature": 0, "max_tokens": 100},
            timeout=30,
        ).json()["choices"][0]
        assert got["finish_reason"] == "stop"
        messages += [got["message"], {"role": "user", "content": follow_up}]


def test_ctrl_c_stops_both_cleanly() -> None:
    environment = {
        "GATEWAY_ADDRESS": f"127.0.0.1:{free_port()}",
        "WORKER_ADDRESS": f"127.0.0.1:{free_port()}",
        "METRICS_ADDRESS": "127.0.0.1:0",
        **worker_environment(),
    }
    with process([sys.executable, str(ROOT / "scripts/run.py")], environment) as script:
        script.wait_for("is ready at", READY_SECONDS)
        script.signal(signal.SIGINT)
        assert script.wait(30) == 0
        for address in (environment["GATEWAY_ADDRESS"], environment["WORKER_ADDRESS"]):
            host, port = address.split(":")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, int(port)))


def test_a_model_that_is_not_there_is_one_clear_line_and_the_end() -> None:
    environment = {
        "MODEL_ID": "/nowhere/at/all",
        "GATEWAY_ADDRESS": f"127.0.0.1:{free_port()}",
        "WORKER_ADDRESS": f"127.0.0.1:{free_port()}",
        "METRICS_ADDRESS": "127.0.0.1:0",
    }
    with process([sys.executable, str(ROOT / "scripts/run.py")], environment) as script:
        assert script.wait(30) == 1
        told = r"there is no directory all: check MODEL_ID \(/nowhere/at/all\)"
        assert re.search(told, script.text())
