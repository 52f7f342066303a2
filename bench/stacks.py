"""What the gateway benchmark runs: a gateway and what it stands before, as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import Process, running

#: Where a log names the port that the system gave.
_LISTENING = r"listening on 127\.0\.0\.1:(\d+)"
_GRPC = r"gRPC on port (\d+)"
_READY_SECONDS = 120.0


@dataclass(frozen=True)
class Options:
    """How the processes are run."""

    step_ms: float = 20.0
    model: str = "demo"
    gateway_cpus: set[int] | None = None  # None: wherever the system likes
    backend_cpus: set[int] | None = None
    profile: Path | None = None  # where the gateway's profile goes
    gateway_environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stack:
    """A gateway that is ready."""

    gateway: Process
    backend: Process
    gateway_address: str
    backend_address: str
    backend_is_worker: bool
    model: str


#: Starts a stack; the context manager stops it again.
Start = Callable[[Options], contextlib.AbstractContextManager[Stack]]


@contextlib.contextmanager
def sluice(options: Options) -> Iterator[Stack]:
    """A Sluice gateway before one worker with the fake engine."""
    environment = {
        "ENGINE": "fake",
        "FAKE_STEP_MS": str(options.step_ms),
        "MODEL_ID": options.model,
        "BATCH_MAX": "1024",
        "WORKER_ADDRESS": "127.0.0.1:0",
        "METRICS_ADDRESS": "127.0.0.1:0",
    }
    worker_command = [sys.executable, "-m", "sluice_worker"]
    profiler = ["-m", "cProfile", "-o", str(options.profile)] if options.profile else []
    command = [sys.executable, *profiler, "-m", "sluice_gateway"]
    with running("worker", worker_command, environment, options.backend_cpus) as worker:
        worker_address = f"127.0.0.1:{worker.find(_GRPC)[1]}"
        environment = {
            "GATEWAY_ADDRESS": "127.0.0.1:0",
            "WORKER_ADDRESSES": worker_address,
            **options.gateway_environment,
        }
        with running("gateway", command, environment, options.gateway_cpus) as gateway:
            address = f"127.0.0.1:{gateway.find(_LISTENING)[1]}"
            gateway.wait_until(
                lambda: ready_model(address) is not None, "ready model", _READY_SECONDS
            )
            model = ready_model(address)
            assert model
            yield Stack(gateway, worker, address, worker_address, True, model)


def ready_model(address: str) -> str | None:
    """The name of a model that a Sluice gateway has ready."""
    health = get_json(address, "/health") or {}
    return next(
        (model["id"] for model in health.get("models", []) if model["state"] == "ready"), None
    )


def get_json(address: str, path: str) -> dict[str, Any] | None:
    """What is at ``path``; None unless it is JSON with status 200."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=2) as answer:
            value = json.load(answer)
    except (OSError, urllib.error.URLError, ValueError):
        return None
    return value if isinstance(value, dict) else None


@contextlib.contextmanager
def mock_backend(options: Options) -> Iterator[tuple[Process, str]]:
    """A mock OpenAI server and its address, for gateways that speak HTTP to their backends."""
    command = [sys.executable, "-m", "bench.mock_openai", "--step-ms", str(options.step_ms)]
    with running("mock", command, None, options.backend_cpus) as mock:
        yield mock, f"127.0.0.1:{mock.find(_LISTENING)[1]}"


def cpus_apart() -> tuple[set[int] | None, set[int] | None]:
    """One CPU for the gateway, the others for the rest; None twice where there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return ({first}, set(others)) if others else (None, None)


@contextlib.contextmanager
def profile_file() -> Iterator[Path]:
    """Where a profile can go."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "gateway.profile"
