"""A real Prometheus that scrapes services of a test."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.processes import process

INSTALLED = pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="prometheus is not installed (Debian has it as the package of that name)",
)


@dataclass
class Prometheus:
    """A Prometheus with labels of its own on all that it scrapes."""

    url: str
    labels: dict[str, str]

    def ask(self, path: str, **parameters: Any) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters)
        body = answer.json()
        assert body["status"] == "success", body
        assert not body.get("warnings"), body
        return body["data"]


@contextlib.contextmanager
def prometheus(
    folder: Path, targets: list[str], interval: str = "1s", **labels: str
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``targets`` so often."""
    folder.mkdir()
    static = [{"targets": targets, "labels": labels}]
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [{"job_name": "sluice", "static_configs": static}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    with process(command, {}) as running:
        port = running.wait_for(r"Listening on.* address=127\.0\.0\.1:(\d+)")[1]
        running.wait_for("ready to receive web requests")
        yield Prometheus(f"http://127.0.0.1:{port}", labels)


def wait_until_scraping(source: Prometheus, targets: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        result = source.ask("query", query="sum(up)")["result"]
        if result and float(result[0]["value"][1]) == targets:
            return
        assert time.monotonic() < deadline, source.ask("targets")
        time.sleep(0.1)
