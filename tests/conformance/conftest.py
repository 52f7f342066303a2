"""One real stack for all clients: the demo model on the hf engine, behind a gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Gateway, gateway, worker


@pytest.fixture(scope="session")
def front() -> Iterator[Gateway]:
    with worker("demo") as demo, gateway(demo.address) as started:
        yield started
