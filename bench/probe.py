"""Single requests, one after another, timed to their first token: over HTTP or over a session."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import grpc
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc

from bench.load_plan import LoadPlan
from bench.sse import Event, StreamReader

PROTOCOL_VERSION = 1
PROMPT_TOKENS = 64

#: Asks for one token; the seconds until it came.
Ask = Callable[[], Awaitable[float]]


def direct(plan: LoadPlan, request: bytes) -> AbstractAsyncContextManager[Ask]:
    """A probe of the plan's backend, without the gateway."""
    return (
        over_session(plan.backend) if plan.backend_is_worker else over_http(plan.backend, request)
    )


@contextlib.asynccontextmanager
async def over_http(address: str, request: bytes) -> AsyncIterator[Ask]:
    """A probe of the OpenAI server at HOST:PORT."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def ask() -> float:
        events = StreamReader()
        first = 0.0
        asked = time.perf_counter()
        writer.write(request)
        while data := await reader.read(1 << 16):
            now = time.perf_counter()
            for event in events.feed(data):
                if event is Event.CONTENT:
                    first = first or now - asked
                elif event is Event.END:
                    return first
        raise ConnectionResetError(f"{address} closed the connection")

    try:
        yield ask
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def over_session(address: str) -> AsyncIterator[Ask]:
    """A probe of the Sluice worker at HOST:PORT, that asks as a gateway does."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = worker_pb2_grpc.WorkerServiceStub(channel).Session()
        hello = pb.Hello(protocol_version=PROTOCOL_VERSION, gateway="benchmark")
        await call.write(pb.SessionRequest(hello=hello))
        row_id = 0

        async def ask() -> float:
            nonlocal row_id
            row_id += 1
            submit = pb.Submit(
                prompt_ids=range(1, PROMPT_TOKENS + 1),
                sampling=pb.SamplingParams(max_tokens=1, top_p=1.0, repetition_penalty=1.0),
                rows=[pb.Row(row_id=row_id)],
            )
            asked = time.perf_counter()
            await call.write(pb.SessionRequest(submit=submit))
            while isinstance(answer := await call.read(), pb.SessionResponse):  # else: EOF
                if answer.admission.HasField("error"):
                    raise RuntimeError(answer.admission.error.message)
                if answer.HasField("step"):
                    return time.perf_counter() - asked
            raise ConnectionResetError(f"{address} ended the session")

        try:
            yield ask
        finally:
            call.cancel()
