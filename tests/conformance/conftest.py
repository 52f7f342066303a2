"""One real stack for all clients: the demo model on a real engine, behind a gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines import READY_SECONDS, worker_environment
from tests.processes import Gateway, gateway, worker


@pytest.fixture(scope="session")
def front() -> Iterator[Gateway]:
    with (
        worker("demo", **worker_environment()) as demo,
        gateway(demo.address, wait=False) as started,
    ):
        started.wait_ready(seconds=READY_SECONDS)
        yield started
