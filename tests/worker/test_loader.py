"""How loading fails: always with a reason, and never without a word."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.engines import fake
from sluice_worker.lifecycle import Lifecycle
from sluice_worker.loader import Loader, LoadFailed
from sluice_worker.server import WorkerServer
from sluice_worker.settings import Settings


class Panic(BaseException):
    """As Rust's panics come to Python."""


@pytest.mark.parametrize("failure", [Panic("secret"), SystemExit(3), MemoryError("secret")])
async def test_whatever_loading_raises_is_a_failure_with_a_reason(
    failure: BaseException, fake_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise failure

    monkeypatch.setattr(fake, "load_engine", fail)
    settings = Settings(model_id=str(fake_model_dir), engine="fake")
    with pytest.raises(LoadFailed, match=type(failure).__name__) as caught:
        await Loader(settings, "m", Lifecycle()).load()
    assert "secret" not in str(caught.value)


async def test_an_engine_that_cannot_start_fails_the_worker(
    fake_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*arguments: object, **callbacks: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(fake.FakeEngine, "start", start)
    server = WorkerServer(
        Settings(
            model_id=str(fake_model_dir),
            engine="fake",
            worker_address="127.0.0.1:0",
            metrics_address="127.0.0.1:0",
        )
    )
    async with asyncio.timeout(20):
        assert await server.run() == 1
    assert server._lifecycle.condition.state == pb.WORKER_STATE_FAILED
