"""Structured outputs are compiled beside all else: nobody waits for another's."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.engines import fake
from sluice_worker.engines.base import (
    Constraint,
    ErrorCode,
    GenerationRequest,
    RequestError,
    StructuredOutput,
)
from sluice_worker.preparing import AT_ONCE, Preparer
from sluice_worker.server import WorkerServer

from tests.worker.sessions import Client, abort, fake_settings, serving, submit

REFUSED = "refused"
FAULTY = "faulty"
PANICS = "panics"


class Panic(BaseException):
    """As one in Rust reaches Python."""


class SlowEngine(fake.FakeEngine):
    """Compiles for as long as the test likes; what is asked for is the name of its lock."""

    begun: list[str]
    submitted: list[int]
    may_end: defaultdict[str, threading.Event]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.model = replace(self.model, structured_output=True)

    def prepare(self, output: StructuredOutput) -> None:
        self.begun.append(output.source)
        if output.source == REFUSED:
            raise RequestError(ErrorCode.INVALID_ARGUMENT, "no such thing", "structured_output")
        if output.source == FAULTY:
            raise ZeroDivisionError
        if output.source == PANICS:
            raise Panic
        assert self.may_end[output.source].wait(30)

    def submit(self, request: GenerationRequest) -> None:
        super().submit(request)
        self.submitted += [spec.key.row_id for spec in request.rows]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SlowEngine]]:
    """The engine of all workers of this test."""
    SlowEngine.begun, SlowEngine.submitted = [], []
    SlowEngine.may_end = defaultdict(threading.Event)
    monkeypatch.setattr(fake, "FakeEngine", SlowEngine)
    yield SlowEngine
    for lock in SlowEngine.may_end.values():
        lock.set()


@contextlib.asynccontextmanager
async def session(model_dir: Path, **changes: Any) -> AsyncIterator[tuple[Client, WorkerServer]]:
    async with serving(fake_settings(model_dir, **changes)) as (client, server):
        await client.open()
        await client.until_ready()
        yield client, server


def structured(source: str, *row_ids: int) -> pb.SessionRequest:
    sampling = pb.SamplingParams(
        max_tokens=5,
        top_p=1,
        repetition_penalty=1,
        structured_output=pb.StructuredOutput(regex=source),
    )
    return submit(sampling=sampling, rows=[pb.Row(row_id=row_id) for row_id in row_ids])


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_others_are_served_while_one_is_prepared(
    engine: type[SlowEngine], fake_model_dir: Path
) -> None:
    async with session(fake_model_dir) as (client, _):
        await client.call.write(structured("a", 1))
        await client.call.write(submit(2))
        await client.admission(2)
        assert len((await client.tokens(2))[0]) == 5
        assert (await client.next("status")).status.state == pb.WORKER_STATE_READY
        engine.may_end["a"].set()
        assert not (await client.admission(1)).HasField("error")
        assert len((await client.tokens(1))[0]) == 5


@pytest.mark.parametrize(
    ("source", "code"),
    [
        (REFUSED, pb.ERROR_CODE_INVALID_ARGUMENT),
        (FAULTY, pb.ERROR_CODE_INTERNAL),
        (PANICS, pb.ERROR_CODE_INTERNAL),
    ],
)
async def test_what_cannot_be_compiled_is_refused_in_its_admission(
    engine: type[SlowEngine],
    fake_model_dir: Path,
    source: str,
    code: pb.ErrorCode.ValueType,
) -> None:
    async with session(fake_model_dir) as (client, _):
        await client.call.write(structured(source, 1))
        refused = (await client.admission(1)).error
        assert refused.code == code
        if source == REFUSED:
            assert (refused.message, refused.field) == ("no such thing", "structured_output")
        await client.call.write(submit(1))  # its id is free again, and the session lives
        assert len((await client.tokens(1))[0]) == 5
    assert engine.submitted == [1]


async def test_a_few_are_prepared_at_once_and_the_others_in_order(
    engine: type[SlowEngine], fake_model_dir: Path
) -> None:
    sources = [str(number) for number in range(AT_ONCE + 3)]
    async with session(fake_model_dir) as (client, _):
        for number, source in enumerate(sources):
            await client.call.write(structured(source, number + 1))
        await until(lambda: len(engine.begun) == AT_ONCE)
        await asyncio.sleep(0.1)
        for number, source in enumerate(sources):
            assert sorted(engine.begun) == sources[: number + AT_ONCE]
            engine.may_end[source].set()
            await client.admission(number + 1)
            await until(lambda: len(engine.begun) >= min(len(sources), number + 1 + AT_ONCE))  # noqa: B023
        assert engine.begun[AT_ONCE:] == sources[AT_ONCE:]


async def test_more_than_may_wait_are_refused_as_overload(fake_model_dir: Path) -> None:
    started: list[str] = []
    go_on = threading.Event()

    class Engine:
        def prepare(self, output: StructuredOutput) -> None:
            started.append(output.source)
            assert go_on.wait(10)

    preparer = Preparer(at_once=1, waiting_max=2)

    def prepare(source: str) -> asyncio.Task[None]:
        output = StructuredOutput(Constraint.REGEX, source)
        return asyncio.create_task(preparer.prepare(Engine(), output))  # type: ignore[arg-type]

    one, two, three, four = (prepare(source) for source in "abcd")
    with pytest.raises(RequestError) as caught:
        await four
    assert caught.value.code is ErrorCode.OVERLOADED
    two.cancel()
    await asyncio.wait([two])
    five = prepare("e")  # in the place of the one that left
    one.cancel()
    await asyncio.wait([one])
    await asyncio.sleep(0.05)
    assert started == ["a"]  # who leaves does not free the thread that still compiles
    go_on.set()
    await asyncio.gather(three, five)
    assert started == ["a", "c", "e"]


async def test_an_abort_drops_rows_that_are_prepared_or_wait_for_it(
    engine: type[SlowEngine], fake_model_dir: Path
) -> None:
    async with session(fake_model_dir) as (client, _):
        for number in range(AT_ONCE + 1):
            await client.call.write(structured(str(number), number + 1))
        await until(lambda: len(engine.begun) == AT_ONCE)
        await client.call.write(abort(*range(1, AT_ONCE + 2)))
        await client.call.write(submit(50))
        await client.admission(50)
        for number in range(AT_ONCE):
            engine.may_end[str(number)].set()
        await client.call.write(structured("after", 60))
        engine.may_end["after"].set()
        await client.admission(60)
    assert engine.submitted == [50, 60]
    assert str(AT_ONCE) not in engine.begun


async def test_an_abort_of_one_row_leaves_the_others_of_its_request(
    engine: type[SlowEngine], fake_model_dir: Path
) -> None:
    async with session(fake_model_dir) as (client, _):
        await client.call.write(structured("a", 1, 2, 3))
        await client.call.write(structured("b", 3))
        taken = await client.admission(3)
        assert taken.error.field == "rows.row_id"
        await client.call.write(abort(1))
        await client.call.write(submit(9))
        await client.admission(9)
        engine.may_end["a"].set()
        assert not (await client.admission(1)).HasField("error")
        await client.tokens(2)
    assert engine.submitted == [9, 2, 3]


async def test_the_end_of_a_session_drops_what_it_has_prepared(
    engine: type[SlowEngine], fake_model_dir: Path
) -> None:
    async with session(fake_model_dir) as (client, server):
        await client.call.write(structured("a", 1))
        await until(lambda: engine.begun)
        client.call.cancel()
        async with asyncio.timeout(5):
            await server._service.wait_until_idle()
        engine.may_end["a"].set()
        await client.open()
        await client.until_ready()
        await client.call.write(submit(2))
        await client.tokens(2)
    assert engine.submitted == [2]


@pytest.mark.parametrize("aborted", [False, True])
async def test_draining_waits_for_rows_that_are_prepared(
    engine: type[SlowEngine], fake_model_dir: Path, *, aborted: bool
) -> None:
    async with session(fake_model_dir, drain_seconds=60) as (client, server):
        await client.call.write(structured("a", 1))
        await until(lambda: engine.begun)
        server.stop()
        await client.until(pb.WORKER_STATE_DRAINING)
        await client.call.write(structured("b", 2))
        assert (await client.admission(2)).error.code == pb.ERROR_CODE_UNAVAILABLE
        if aborted:
            await client.call.write(abort(1))
        else:
            engine.may_end["a"].set()
            assert not (await client.admission(1)).HasField("error")
            assert len((await client.tokens(1))[0]) == 5
        began = time.monotonic()
    assert time.monotonic() - began < 20


async def test_an_engine_that_only_prepares_is_not_stuck(
    engine: type[SlowEngine], fake_model_dir: Path
) -> None:
    async with session(fake_model_dir, engine_stall_seconds=0.4) as (client, _):
        await client.call.write(structured("a", 1))
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            status = (await client.next("status")).status
            assert (status.state, status.engine_quiet_ms) == (pb.WORKER_STATE_READY, 0)
        engine.may_end["a"].set()
        assert not (await client.admission(1)).HasField("error")
        assert len((await client.tokens(1))[0]) == 5


async def test_when_the_engine_dies_what_is_prepared_is_answered(
    engine: type[SlowEngine], fake_model_dir: Path
) -> None:
    async with session(fake_model_dir, fake={"fail_after_steps": 1}) as (client, _):
        await client.call.write(structured("a", 1))
        await until(lambda: engine.begun)
        await client.call.write(submit(2))
        await client.admission(2)
        assert (await client.admission(1)).error.code == pb.ERROR_CODE_UNAVAILABLE
