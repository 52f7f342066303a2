"""A worker that says what the test wants it to say, over real gRPC; it generates nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import httpx
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

HEARTBEAT_SECONDS = 0.2


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def until_told(url: str, tells: Callable[[Any], object], seconds: float = 10.0) -> Any:
    """Ask ``url`` until its JSON is what ``tells`` wants; that JSON."""
    async with httpx.AsyncClient() as client, asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(httpx.TransportError):
                body = (await client.get(url)).json()
                if tells(body):
                    return body
            await asyncio.sleep(0.02)


class ScriptedWorker(worker_pb2_grpc.WorkerServiceServicer):
    """Says its present status to every session, at once when it changes and as a heartbeat."""

    def __init__(self, model_dir: Path, name: str, adapters: Sequence[str]) -> None:
        self.address = ""
        self._name = name
        self._adapters = adapters
        self._files = {
            file: (model_dir / file).read_bytes()
            for file in ("tokenizer.json", "tokenizer_config.json")
        }
        self._status: pb.Status | None = None
        self._changed = asyncio.Event()
        self.break_sessions = asyncio.Event()

    def say(self, state: str, **fields: Any) -> None:
        """Be in ``state`` from now on."""
        number = pb.WorkerState.Value(f"WORKER_STATE_{state.upper()}")
        given = {"model_name": self._name, "adapter_names": self._adapters, "batch_max": 4}
        self._status = pb.Status(state=number, **{**given, **fields})
        self._changed.set()
        self._changed = asyncio.Event()

    async def Session(self, request_iterator, context):  # type: ignore[no-untyped-def,override]  # noqa: N802
        await context.read()
        await context.write(pb.SessionResponse(welcome=pb.Welcome(protocol_version=1)))
        while not self.break_sessions.is_set():
            changed = self._changed
            if self._status is not None:
                await context.write(pb.SessionResponse(status=self._status))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await changed.wait()

    async def GetModel(self, request, context):  # type: ignore[no-untyped-def,override]  # noqa: N802
        return pb.GetModelResponse(
            name=self._name,
            fingerprint=self._name,
            max_model_len=100,
            vocab_size=600,
            tokenizer_hash="h",
            created=1,
            structured_output=True,
            adapters=[pb.Adapter(name=each, fingerprint=each) for each in self._adapters],
        )

    async def GetTokenizer(self, request, context):  # type: ignore[no-untyped-def,override]  # noqa: N802
        for file, data in self._files.items():
            yield pb.GetTokenizerResponse(file_name=file, data=data)


@contextlib.asynccontextmanager
async def scripted_worker(
    model_dir: Path,
    name: str = "m",
    adapters: Sequence[str] = (),
    made: type[ScriptedWorker] = ScriptedWorker,
) -> AsyncIterator[ScriptedWorker]:
    """One on a free port; it says nothing until told what."""
    server = grpc.aio.server()
    servicer = made(model_dir, name, adapters)
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(None)
