"""A worker in this process, and a session with it as a gateway opens one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc
from sluice_worker.server import WorkerServer
from sluice_worker.settings import FakeSettings, Settings

SAMPLING = pb.SamplingParams(max_tokens=5, top_p=1, repetition_penalty=1)


def submit(row_id: int = 1, **changes: object) -> pb.SessionRequest:
    values = {"prompt_ids": [5, 6], "sampling": SAMPLING, "rows": [pb.Row(row_id=row_id)]}
    return pb.SessionRequest(submit=pb.Submit(**{**values, **changes}))  # type: ignore[arg-type]


def abort(*row_ids: int) -> pb.SessionRequest:
    return pb.SessionRequest(abort=pb.Abort(row_ids=row_ids))


class Client:
    """A session, read frame by frame."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.stub = worker_pb2_grpc.WorkerServiceStub(self.channel)

    async def open(self, version: int = 1) -> None:
        self.call = self.stub.Session()
        hello = pb.Hello(protocol_version=version, gateway="test")
        await self.call.write(pb.SessionRequest(hello=hello))

    async def next(self, kind: str) -> pb.SessionResponse:
        async with asyncio.timeout(20):
            while True:
                frame = await self.call.read()
                assert isinstance(frame, pb.SessionResponse), "the session ended"
                if frame.WhichOneof("message") == kind:
                    return frame

    async def until(self, state: pb.WorkerState.ValueType) -> None:
        while (await self.next("status")).status.state != state:
            pass

    async def until_ready(self) -> None:
        await self.until(pb.WORKER_STATE_READY)

    async def admission(self, row_id: int) -> pb.Admission:
        """The next one, which has to be that of this row."""
        admission = (await self.next("admission")).admission
        assert admission.row_id == row_id
        return admission

    async def tokens(self, row_id: int) -> tuple[list[int], pb.RowFinish]:
        got: list[int] = []
        while True:
            step = (await self.next("step")).step
            counts = list(step.token_counts) or [1] * len(step.row_ids)
            position = 0
            for each, count in zip(step.row_ids, counts, strict=True):
                if each == row_id:
                    got += step.token_ids[position : position + count]
                position += count
            for finish in step.finishes:
                if finish.row_id == row_id:
                    return got, finish


def fake_settings(
    model_dir: Path, *, fake: Mapping[str, object] | None = None, **changes: Any
) -> Settings:
    """Those of a worker with the fake engine."""
    given = {
        "engine": "fake",
        "model_id": str(model_dir),
        "worker_address": "127.0.0.1:0",
        "metrics_address": "127.0.0.1:0",
        "drain_seconds": 5,
        "fake": FakeSettings(**(fake or {})),  # type: ignore[arg-type]
    }
    return Settings(**{**given, **changes})


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Client, WorkerServer]]:
    """A worker, and a client that has not opened its session yet."""
    server = WorkerServer(settings)
    running = asyncio.create_task(server.run())
    async with asyncio.timeout(10):
        while server.port is None:
            await asyncio.sleep(0.01)
    client = Client(server.port)
    try:
        yield client, server
    finally:
        await client.channel.close()
        server.stop()
        await running
