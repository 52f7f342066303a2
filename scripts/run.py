"""What ``make run`` starts: a worker and a gateway on this machine, until Ctrl-C.

Both take their settings from the environment, as they do alone (see the README's table).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

GATEWAY_ADDRESS = "127.0.0.1:8080"
WORKER_ADDRESS = "127.0.0.1:50051"

#: Longer than both services' DRAIN_SECONDS: running streams finish first.
STOP_SECONDS = 40.0
POLL_SECONDS = 0.1

#: The gateway is on this machine, whatever ``http_proxy`` says.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Service:
    """One of the two processes; its output is passed on line by line, with its name before."""

    def __init__(self, name: str, module: str, environment: dict[str, str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C reaches only us; we stop both in order
        )
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()

    def _pass_on(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            print(f"{self.name:>7} | {line}", end="", flush=True)

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL when it takes too long."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self.process.wait()
        self._reader.join(timeout=5)

    def kill(self) -> None:
        """End it and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@contextlib.contextmanager
def running(gateway_address: str, worker_address: str) -> Iterator[list[Service]]:
    """Both services; the gateway is stopped first, so that its streams can finish."""
    worker = Service("worker", "sluice_worker", {"WORKER_ADDRESS": worker_address})
    gateway = Service(
        "gateway",
        "sluice_gateway",
        {"GATEWAY_ADDRESS": gateway_address, "WORKER_ADDRESSES": worker_address},
    )
    try:
        yield [worker, gateway]
    finally:
        gateway.stop()
        worker.stop()


def ready_model(gateway_address: str) -> str | None:
    """The name of a model that the gateway has ready, or None."""
    try:
        with DIRECT.open(f"http://{gateway_address}/health", timeout=2) as answer:
            models = json.load(answer)["models"]
    except (OSError, urllib.error.URLError, ValueError):
        return None
    return next((model["id"] for model in models if model["state"] == "ready"), None)


def greet(gateway_address: str, model: str, seconds: float) -> None:
    """Say that it is ready, and what to type."""
    url = f"http://{gateway_address}"
    body = '{"messages":[{"role":"user","content":"Say hello"}],"stream":true}'
    print(
        f"\n{model} is ready at {url} after {seconds:.1f} s. Try, in another terminal:\n\n"
        f"  curl -N -s {url}/v1/chat/completions -H 'content-type: application/json' \\\n"
        f"    -d '{body}'\n\nCtrl-C stops both.\n",
        flush=True,
    )


def watch(services: list[Service], gateway_address: str, stopping: threading.Event) -> int:
    """Until told to stop (0), or until one of the services ends by itself (its status)."""
    began = time.monotonic()
    greeted = False
    while not stopping.wait(POLL_SECONDS):
        for service in services:
            if (status := service.process.poll()) is not None:
                print(f"make run: the {service.name} ended with status {status}", file=sys.stderr)
                return status or 1
        if not greeted and (model := ready_model(gateway_address)):
            greet(gateway_address, model, time.monotonic() - began)
            greeted = True
    return 0


def main() -> int:
    """Run both services until SIGINT, SIGTERM or the end of one of them.

    A signal while they are being stopped kills them.
    """
    stopping = threading.Event()
    started: list[Service] = []

    def on_signal(*_: object) -> None:
        if stopping.is_set():
            for service in started:
                service.kill()
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    gateway_address = os.environ.get("GATEWAY_ADDRESS") or GATEWAY_ADDRESS
    worker_address = os.environ.get("WORKER_ADDRESS") or WORKER_ADDRESS
    with running(gateway_address, worker_address) as services:
        started += services
        status = watch(services, gateway_address, stopping)
        stopping.set()
        return status


if __name__ == "__main__":
    sys.exit(main())
