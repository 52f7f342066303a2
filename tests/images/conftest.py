"""The images of the Dockerfiles, built for real, and containers that never outlive their test.

Not part of ``make test``: it needs root, podman and buildah. ``make test-images`` prepares both.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

PREFIX = os.environ.get("IMAGE_PREFIX", "localhost/sluice-")
TAG = os.environ.get("IMAGE_TAG", "test")

#: What the chart asks for, as podman has it.
HARDENED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges", "--user", "10001:0"),
)
_PODMAN = ("podman", "--runtime", "runc")
_LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")


def podman(*arguments: str) -> str:
    """Run podman; what it printed."""
    command = [*_PODMAN, *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def image(name: str) -> str:
    return f"{PREFIX}{name}:{TAG}"


@pytest.fixture(scope="session", autouse=True)
def _images_are_there() -> None:
    for name in ("gateway", "worker-cpu"):
        podman("image", "exists", image(name))


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Container:
    """A running container."""

    name: str

    def logs(self) -> str:
        command = [*_PODMAN, "logs", self.name]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        return ended.stdout + ended.stderr

    def exec(self, *command: str) -> bool:
        """Run a command in it; whether it ended well."""
        ended = subprocess.run(
            [*_PODMAN, "exec", self.name, *command], check=False, capture_output=True
        )
        return ended.returncode == 0

    def stop(self, seconds: int = 30) -> int:
        """SIGTERM, then SIGKILL after ``seconds``. The exit status; 137 if it was killed."""
        podman("stop", "--time", str(seconds), self.name)
        return self.exit_status()

    def exit_status(self) -> int:
        status: int = json.loads(podman("inspect", self.name))[0]["State"]["ExitCode"]
        return status


@contextlib.contextmanager
def container(name: str, *options: str, arguments: tuple[str, ...] = ()) -> Iterator[Container]:
    """A container of an image, with nothing but these options."""
    started = Container(f"sluice-test-{uuid.uuid4().hex[:8]}")
    command = ("run", "-d", "--name", started.name, *_LIMITS)
    podman(*command, *options, name, *arguments)
    try:
        yield started
    finally:
        podman("rm", "-f", started.name)


@contextlib.contextmanager
def running(name: str, *options: str, arguments: tuple[str, ...] = ()) -> Iterator[Container]:
    """One of ours, under the chart's security context, on the host's network."""
    with_all = ("--network", "host", *HARDENED, *options)
    with container(image(name), *with_all, arguments=arguments) as started:
        yield started


def environment(**settings: str) -> list[str]:
    return [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]


@dataclass
class Stack:
    """A worker and a gateway in containers."""

    worker: Container
    gateway: Container
    url: str


@contextlib.contextmanager
def stack(*worker_options: str, **worker_settings: str) -> Iterator[Stack]:
    """Both containers; the gateway listens, the model may still be on its way."""
    grpc, metrics, http = (f"127.0.0.1:{free_port()}" for _ in range(3))
    settings = {"WORKER_ADDRESS": grpc, "METRICS_ADDRESS": metrics, **worker_settings}
    front = environment(GATEWAY_ADDRESS=http, WORKER_ADDRESSES=grpc)
    with (
        running("worker-cpu", *worker_options, *environment(**settings)) as worker,
        running("gateway", *front) as gateway,
    ):
        yield Stack(worker, gateway, f"http://{http}")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds; a minute is what an installation may take."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def wait_ready(started: Stack, seconds: float = 120) -> None:
    """Wait until the model is ready; fail with the logs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{started.url}/health").status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"not ready:\n{started.worker.logs()}\n{started.gateway.logs()}")


@contextlib.contextmanager
def mounted(name: str) -> Iterator[Path]:
    """The file system of an image."""
    path = Path(podman("image", "mount", image(name)).strip())
    try:
        yield path
    finally:
        podman("image", "unmount", image(name))
