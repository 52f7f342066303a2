"""A hub and a cache for a test, and the process that its downloads are forked from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.weights.downloads import Downloads, Zygote, downloading


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def downloads(tmp_path: Path, zygote: Zygote) -> Iterator[Downloads]:
    with downloading(tmp_path, zygote) as started:
        yield started
