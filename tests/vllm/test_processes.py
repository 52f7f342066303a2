"""Workers with vLLM as processes: beside an hf worker, with adapters, killed, in two parts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.dashboards.boards import GPU_QUERIES
from tests.engines import READY_SECONDS, vllm_environment
from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat

ASK = [{"role": "user", "content": "Say hello"}]


def said(front: Gateway, model: str | None, **given: Any) -> str:
    body = {"messages": ASK, "max_tokens": 12, "temperature": 0, **given}
    if model:
        body["model"] = model
    answer = httpx.post(f"{front.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


@pytest.fixture(scope="module")
def both(adapters: dict[str, Path]) -> Iterator[tuple[Gateway, Worker]]:
    """A gateway with one worker of each engine; the one with vLLM has two adapters."""
    modules = ",".join(f"{name}={path}" for name, path in adapters.items())
    with (
        worker("demo", SERVED_MODEL_NAME="on-hf", ENGINE="hf", DTYPE="float32") as hf,
        worker(
            "demo", SERVED_MODEL_NAME="on-vllm", LORA_MODULES=modules, **vllm_environment()
        ) as vllm,
        gateway(hf.address, vllm.address, wait=False) as front,
    ):
        front.wait_ready(models=4, seconds=READY_SECONDS)
        yield front, vllm


def test_a_gateway_serves_models_of_both_engines(both: tuple[Gateway, Worker]) -> None:
    front, _ = both
    listed = httpx.get(f"{front.url}/v1/models").json()["data"]
    assert {model["id"] for model in listed} == {"on-hf", "on-vllm", "pirate", "poet"}
    hello = said(front, "on-hf")
    assert hello
    assert said(front, "on-vllm") == hello
    assert len({hello, said(front, "pirate"), said(front, "poet")}) == 3


def test_vllm_exports_what_the_dashboard_asks_it_for(both: tuple[Gateway, Worker]) -> None:
    front, vllm = both
    said(front, "on-vllm")
    exported = set(re.findall(r"^(vllm:\w+)", vllm.metrics(), re.MULTILINE))
    asked = {name for query in GPU_QUERIES for name in re.findall(r"vllm:\w+", query.expr)}
    assert asked
    assert asked <= exported


def test_adapters_stream_with_the_official_client(both: tuple[Gateway, Worker]) -> None:
    front, _ = both
    client = openai.OpenAI(base_url=f"{front.url}/v1", api_key="none")
    for name in ("pirate", "on-vllm"):
        chunks = list(
            client.chat.completions.create(
                model=name,
                messages=ASK,
                max_tokens=12,
                temperature=0,
                stream=True,  # type: ignore[call-overload]
            )
        )
        assert {chunk.model for chunk in chunks} == {name}
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == said(front, name)


def test_metrics_are_the_common_ones_and_vllms_own(both: tuple[Gateway, Worker]) -> None:
    front, vllm = both
    said(front, "on-vllm")
    exported = vllm.metrics()
    for name in ("sluice_batch_size_count", "sluice_generation_tokens_total"):
        assert re.search(rf'^{name}{{model_name="on-vllm"}} [1-9]', exported, re.MULTILINE), name
    assert re.search(
        r'^vllm:generation_tokens_total{.*model_name="on-vllm".*} [1-9]', exported, re.MULTILINE
    )
    assert "sluice_kv_cache_usage_perc" in exported


def test_a_disconnected_client_frees_its_row(both: tuple[Gateway, Worker]) -> None:
    front, vllm = both
    body = {"model": "on-vllm", "messages": ASK, "max_tokens": 1500, "ignore_eos": True}
    with httpx.stream(
        "POST", f"{front.url}/v1/chat/completions", json={**body, "stream": True}, timeout=60
    ) as answer:
        for number, _ in enumerate(answer.iter_lines()):
            if number > 6:
                break
    deadline = time.monotonic() + 5
    while 'sluice_num_requests_running{model_name="on-vllm"} 0.0' not in vllm.metrics():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    return [found for child in listed for found in (int(child), *children(int(child)))]


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def core_of(pid: int) -> int:
    for child in children(pid):
        if "EngineCore" in name_of(child):
            return child
    raise AssertionError("vLLM's core is not there")


def wait_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_a_killed_core_ends_streams_within_two_seconds_and_the_worker_fails() -> None:
    with (
        worker("demo", **vllm_environment()) as vllm,
        gateway(vllm.address, wait=False, FAILOVER_SECONDS="0") as front,
    ):
        front.wait_ready(seconds=READY_SECONDS)
        started = children(vllm.process.pid)
        core = core_of(vllm.process.pid)
        lines: list[str] = []
        killed = 0.0
        body = chat("Say hello", max_tokens=1500, ignore_eos=True, stream=True)
        with httpx.stream(
            "POST", f"{front.url}/v1/chat/completions", json=body, timeout=60
        ) as answer:
            for line in filter(None, answer.iter_lines()):
                lines.append(line)
                if len(lines) == 6:
                    killed = time.monotonic()
                    os.kill(core, signal.SIGKILL)
        assert time.monotonic() - killed < 2.0
        assert lines[-1] == "data: [DONE]"
        error = json.loads(lines[-2].removeprefix("data: "))["error"]
        assert "engine" in error["message"]
        assert error["code"] == "worker_lost"
        assert vllm.process.wait(15) == 1
        wait_gone(started, 15)


def test_on_a_cpu_vllms_processes_sleep_while_they_wait_for_each_other() -> None:
    if vllm_environment()["MODEL_DEVICE"] != "cpu":
        pytest.skip("beside a GPU they spin, on cores of their own")
    with (
        worker("demo", **vllm_environment()) as vllm,
        gateway(vllm.address, wait=False) as front,
    ):
        front.wait_ready(seconds=READY_SECONDS)
        core = core_of(vllm.process.pid)
        (computes,) = (pid for pid in children(core) if "Worker" in name_of(pid))
        before = [naps(core), naps(computes)]
        said(front, None, max_tokens=200, ignore_eos=True)
        after = [naps(core), naps(computes)]
    assert [late - early >= 200 for early, late in zip(before, after, strict=True)] == [True] * 2


def name_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def naps(pid: int) -> int:
    """How often a process's main thread has gone to sleep."""
    found = re.search(r"\nvoluntary_ctxt_switches:\t(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def test_an_idle_core_that_is_killed_ends_the_worker_too() -> None:
    with worker("demo", **vllm_environment()) as vllm:
        vllm.process.wait_for("ready", READY_SECONDS)
        os.kill(core_of(vllm.process.pid), signal.SIGKILL)
        assert vllm.process.wait(15) == 1


@pytest.mark.parametrize("moment", ["loading", "ready"])
def test_sigterm_ends_it_cleanly_and_leaves_no_process(moment: str) -> None:
    with worker("demo", **vllm_environment()) as vllm:
        vllm.process.wait_for(moment, READY_SECONDS)
        time.sleep(6 if moment == "loading" else 0)  # its core is being started
        started = children(vllm.process.pid)
        vllm.process.signal(signal.SIGTERM)
        assert vllm.process.wait(20) == 0
        wait_gone(started, 20)


def test_ctrl_c_on_a_terminal_lets_running_streams_end() -> None:
    with (
        worker("demo", **vllm_environment()) as vllm,
        gateway(vllm.address, wait=False, FAILOVER_SECONDS="0") as front,
    ):
        front.wait_ready(seconds=READY_SECONDS)
        started = children(vllm.process.pid)
        lines: list[str] = []
        body = chat("Say hello", max_tokens=120, ignore_eos=True, stream=True)
        with httpx.stream(
            "POST", f"{front.url}/v1/chat/completions", json=body, timeout=60
        ) as answer:
            for line in filter(None, answer.iter_lines()):
                lines.append(line)
                if len(lines) == 4:
                    os.killpg(vllm.process.pid, signal.SIGINT)  # as a terminal does it
        assert lines[-1] == "data: [DONE]"
        assert (
            json.loads(lines[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
        )
        assert vllm.process.wait(20) == 0
        wait_gone(started, 20)


def test_a_model_that_does_not_fit_is_told_with_vllms_own_reason(tmp_path: Path) -> None:
    short = {"KV_CACHE_BYTES": "1MiB", "MAX_MODEL_LEN": "2048", "TMPDIR": str(tmp_path)}
    with worker("demo", **{**vllm_environment(), **short}) as vllm:
        vllm.process.wait_for("failed: vLLM could not load the model: .*KV cache", READY_SECONDS)
        assert vllm.process.wait(15) == 1
    assert not list(tmp_path.glob("sluice-vllm-*"))


def test_a_killed_worker_leaves_no_process() -> None:
    with worker("demo", **vllm_environment()) as vllm:
        vllm.process.wait_for("ready", READY_SECONDS)
        started = children(vllm.process.pid)
        vllm.process.signal(signal.SIGKILL)
        wait_gone(started, 20)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"VLLM_ARGS": "--no-such-thing"}, "VLLM_ARGS: .*--no-such-thing"),
        ({"LORA_MODULES": "mine=/no/such/place"}, "adapter mine: .*adapter_config.json"),
        ({"LORA_MODULES": "sluice-demo=/x"}, "sluice-demo is the model's own name"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(settings: dict[str, str], told: str) -> None:
    with worker("demo", **{**vllm_environment(), **settings}) as vllm:
        vllm.process.wait_for(told, 60)
        assert vllm.process.wait(15) == 1


def test_two_machines_share_a_model_and_end_together() -> None:
    nodes = {"TP_SIZE": "2", "NODE_COUNT": "2", "LEADER_ADDRESS": "127.0.0.1"}
    environment = {**vllm_environment(), **nodes}
    with (
        worker("demo", NODE_RANK="1", **environment) as follower,
        worker("demo", NODE_RANK="0", **environment) as leader,
        gateway(leader.address, wait=False) as front,
    ):
        front.wait_ready(seconds=READY_SECONDS)
        assert said(front, None).startswith("Hello")
        assert 'state="ready"} 1.0' not in follower.metrics()
        leader.process.signal(signal.SIGTERM)
        assert leader.process.wait(20) == 0
        follower.process.wait_for("has ended", 30)
        assert follower.process.wait(20) == 1


def test_a_stream_goes_on_with_the_other_engine_when_a_core_is_killed() -> None:
    body = chat("Tell me a story", max_tokens=1000, temperature=0, ignore_eos=True, stream=True)
    with (
        worker("demo", ENGINE="hf", DTYPE="float32") as hf,
        worker("demo", **vllm_environment()) as vllm,
        gateway(hf.address, vllm.address, wait=False) as front,
    ):
        front.wait_ready(seconds=READY_SECONDS)
        front.wait_workers(2, READY_SECONDS)
        core = core_of(vllm.process.pid)
        with contextlib.ExitStack() as streams:
            lines = [  # one on each worker: the least loaded is picked
                streams.enter_context(
                    httpx.stream("POST", f"{front.url}/v1/chat/completions", json=body, timeout=60)
                ).iter_lines()
                for _ in range(2)
            ]
            got = [[next(each) for _ in range(12)] for each in lines]
            os.kill(core, signal.SIGKILL)
            for mine, rest in zip(got, lines, strict=True):
                mine += rest
        texts = [text_of(mine) for mine in got]
        assert texts[0] == texts[1]
        assert all(mine[-2] == "data: [DONE]" for mine in got)
        assert "sluice_failovers_total{" in httpx.get(f"{front.url}/metrics").text
        front.process.wait_for(r"workers_lost=1 ", 10)


def text_of(lines: list[str]) -> str:
    """What a stream said; it must have no error."""
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert not [chunk for chunk in chunks if "error" in chunk]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
