"""Services as subprocesses: started, waited for, and never left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_SECONDS = 60.0
STOP_SECONDS = 20.0


@dataclass
class Process:
    """A running service. ``log`` is all that it printed so far."""

    popen: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def text(self) -> str:
        return "".join(self.log)

    def wait_for(self, pattern: str, seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait until a line matches; fail with the log when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.text()):
                return found
            if self.popen.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {pattern!r} within {seconds} s in:\n{self.text()}")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        return self.popen.wait(seconds)


@contextlib.contextmanager
def process(arguments: list[str], environment: dict[str, str]) -> Iterator[Process]:
    """Run a command in a group of its own; on leaving, all of the group is gone."""
    popen = subprocess.Popen(
        arguments,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    running = Process(popen)

    def read() -> None:
        assert popen.stdout is not None
        for line in popen.stdout:
            running.log.append(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield running
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGCONT)  # a stopped process cannot end
            popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        reader.join(5)
        assert popen.stdout is not None
        popen.stdout.close()


@dataclass
class Worker:
    process: Process
    address: str
    metrics_url: str

    def metrics(self) -> str:
        return httpx.get(self.metrics_url).text


@contextlib.contextmanager
def worker(model: str | Path = "demo", port: int = 0, **environment: str) -> Iterator[Worker]:
    """A worker process; returns once its port is open, before its model is ready."""
    settings = {
        "MODEL_ID": str(model),
        "WORKER_ADDRESS": f"127.0.0.1:{port}",
        "METRICS_ADDRESS": "127.0.0.1:0",
        "DRAIN_SECONDS": "10",
        **environment,
    }
    with process([sys.executable, "-m", "sluice_worker"], settings) as running:
        metrics = running.wait_for(r"metrics on port (\d+)")[1]
        grpc = running.wait_for(r"gRPC on port (\d+)")[1]
        yield Worker(running, f"127.0.0.1:{grpc}", f"http://127.0.0.1:{metrics}/metrics")


@dataclass
class Gateway:
    process: Process
    url: str

    def health(self) -> dict[str, object]:
        body: dict[str, object] = httpx.get(f"{self.url}/health").json()
        return body

    def wait_ready(self, models: int = 1, seconds: float = START_SECONDS) -> None:
        """Wait until so many models are ready."""
        deadline = time.monotonic() + seconds
        body: dict[str, object] = {}
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                body = self.health()
                states = [model["state"] for model in body["models"]]  # type: ignore[attr-defined]
                if states.count("ready") >= models:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready within {seconds} s: {body}\n{self.process.text()}")

    def wait_workers(self, count: int, seconds: float = 10) -> None:
        """Wait until the first model has so many workers that are ready."""
        deadline = time.monotonic() + seconds
        while self.health()["models"][0]["workers_ready"] != count:  # type: ignore[index]
            assert time.monotonic() < deadline
            time.sleep(0.05)


@contextlib.contextmanager
def gateway(*addresses: str, wait: bool = True, **environment: str) -> Iterator[Gateway]:
    """A gateway process in front of ``addresses``; waits for a model unless told not to."""
    settings = {
        "GATEWAY_ADDRESS": "127.0.0.1:0",
        "WORKER_ADDRESSES": ",".join(addresses),
        "DRAIN_SECONDS": "10",
        **environment,
    }
    with process([sys.executable, "-m", "sluice_gateway"], settings) as running:
        port = running.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1]
        started = Gateway(running, f"http://127.0.0.1:{port}")
        if wait:
            started.wait_ready()
        yield started
