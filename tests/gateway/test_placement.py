"""What another worker is asked for when one is lost, seen from the workers' side."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sluice.worker.v1 import worker_pb2 as pb

from tests.conftest import make_tokenizer
from tests.processes import gateway
from tests.scripted_worker import ScriptedWorker, scripted_worker, until, until_told
from tests.sse import chat

CHAT = "/v1/chat/completions"
TOKEN = 70
TEXT = make_tokenizer().decode([TOKEN])
ALL = slice(None)


DEAD = pb.RowFinish(
    reason=pb.FINISH_REASON_ERROR,
    error=pb.Error(code=pb.ERROR_CODE_UNAVAILABLE, message="The engine died."),
)
DONE = pb.RowFinish(reason=pb.FINISH_REASON_LENGTH)
REFUSED = pb.Error(code=pb.ERROR_CODE_INVALID_ARGUMENT, message="Not me.", field="temperature")


class Answering(ScriptedWorker):
    """Answers each Submit as ``answers`` says, and keeps it in ``submits``."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.submits: list[pb.Submit] = []
        self.answers: Callable[[pb.Submit], list[pb.SessionResponse]] = lambda submit: []
        self.say("ready")

    async def Session(self, request_iterator, context):  # type: ignore[no-untyped-def,override]  # noqa: N802
        await context.read()
        await context.write(pb.SessionResponse(welcome=pb.Welcome(protocol_version=1)))
        turn = asyncio.Lock()
        beating = asyncio.create_task(self._beat(context, turn))
        try:
            while isinstance(message := await context.read(), pb.SessionRequest):
                if message.HasField("submit"):
                    self.submits.append(message.submit)
                    async with turn:
                        for answer in self.answers(message.submit):
                            await context.write(answer)
        finally:
            beating.cancel()

    async def _beat(self, context: Any, turn: asyncio.Lock) -> None:
        while True:
            async with turn:
                await context.write(pb.SessionResponse(status=self._status))
            await asyncio.sleep(0.2)


def takes(
    *steps: Callable[[pb.Submit], pb.Step],
) -> Callable[[pb.Submit], list[pb.SessionResponse]]:
    """It takes the request, and then come those steps."""

    def answers(submit: pb.Submit) -> list[pb.SessionResponse]:
        admission = pb.Admission(row_id=submit.rows[0].row_id)
        frames = [pb.SessionResponse(step=step(submit)) for step in steps]
        return [pb.SessionResponse(admission=admission), *frames]

    return answers


def refuses(error: pb.Error) -> Callable[[pb.Submit], list[pb.SessionResponse]]:
    """It does not take the request."""
    return lambda submit: [
        pb.SessionResponse(admission=pb.Admission(row_id=submit.rows[0].row_id, error=error))
    ]


def rows_step(submit: pb.Submit, tokens: int, end: pb.RowFinish | None, rows: slice) -> pb.Step:
    """Those rows of ``submit`` get so many tokens, and end if told to."""
    ids = [row.row_id for row in submit.rows][rows]
    made = pb.Step(row_ids=ids, token_counts=[tokens] * len(ids), batch_size=len(ids))
    made.token_ids.extend([TOKEN] * tokens * len(ids))
    for row_id in ids:
        made.starts.add(row_id=row_id, queue_us=1, prefill_us=1)
        if end is not None:
            made.finishes.add(row_id=row_id, reason=end.reason, error=end.error)
    return made


def gives(
    tokens: int, end: pb.RowFinish | None = None, rows: slice = ALL
) -> Callable[[pb.Submit], pb.Step]:
    return partial(rows_step, tokens=tokens, end=end, rows=rows)


@contextlib.asynccontextmanager
async def two(
    model_dir: Path, **settings: str
) -> AsyncIterator[tuple[Answering, Answering, httpx.AsyncClient]]:
    """Two such workers, and a client of the gateway before them."""
    async with (
        scripted_worker(model_dir, made=Answering) as one,
        scripted_worker(model_dir, made=Answering) as other,
    ):
        assert isinstance(one, Answering)
        assert isinstance(other, Answering)
        with gateway(one.address, other.address, wait=False, **settings) as front:
            await until_told(
                front.url + "/health",
                lambda body: [m["workers_ready"] for m in body["models"]] == [2],
            )
            async with httpx.AsyncClient(base_url=front.url, timeout=30) as client:
                yield one, other, client


def either(
    one: Answering,
    other: Answering,
    first: Callable[[pb.Submit], list[pb.SessionResponse]],
    then: Callable[[pb.Submit], list[pb.SessionResponse]],
) -> list[pb.Submit]:
    """Whoever is asked first answers so, and who is asked then so. What they are asked."""
    asked: list[pb.Submit] = []

    def answers(submit: pb.Submit) -> list[pb.SessionResponse]:
        asked.append(submit)
        return (first if len(asked) == 1 else then)(submit)

    one.answers = other.answers = answers
    return asked


async def test_rows_of_a_dead_engine_go_on_with_what_they_have(fake_model_dir: Path) -> None:
    async with two(fake_model_dir) as (one, other, client):
        asked = either(one, other, takes(gives(2), gives(0, DEAD)), takes(gives(3, DONE)))
        answer = await client.post(CHAT, json=chat(max_tokens=5, seed=9, logit_bias={"5": 1}))
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 5
    first, second = asked
    assert [list(row.generated_ids) for row in first.rows] == [[]]
    assert [list(row.generated_ids) for row in second.rows] == [[TOKEN, TOKEN]]
    assert [row.seed for row in second.rows] == [row.seed for row in first.rows] == [9]
    assert (second.prompt_ids, second.sampling) == (first.prompt_ids, first.sampling)


async def test_a_row_that_has_ended_is_not_begun_again(fake_model_dir: Path) -> None:
    first = takes(gives(1), gives(1, DONE, slice(0, 1)), gives(0, DEAD, slice(1, 3)))
    async with two(fake_model_dir) as (one, other, client):
        asked = either(one, other, first, takes(gives(4, DONE)))
        answer = await client.post(CHAT, json=chat(n=3, max_tokens=5))
    assert [list(row.generated_ids) for row in asked[1].rows] == [[TOKEN], [TOKEN]]
    assert answer.json()["usage"]["completion_tokens"] == 2 + 5 + 5
    assert [each["finish_reason"] for each in answer.json()["choices"]] == ["length"] * 3


async def test_a_row_whose_stop_string_was_found_is_not_begun_again(fake_model_dir: Path) -> None:
    first = takes(gives(1), gives(3, None, slice(0, 1)), gives(0, DEAD, slice(1, 2)))
    async with two(fake_model_dir) as (one, other, client):
        asked = either(one, other, first, takes(gives(1, DONE)))
        answer = await client.post(CHAT, json=chat(n=2, max_tokens=9, stop=TEXT * 3))
    assert [list(row.generated_ids) for row in asked[1].rows] == [[TOKEN]]
    assert [each["finish_reason"] for each in answer.json()["choices"]] == ["stop", "length"]


async def test_a_worker_that_cannot_go_on_with_it_ends_it_as_lost(fake_model_dir: Path) -> None:
    """The client asked for nothing wrong, so it is told of no 400."""
    async with two(fake_model_dir) as (one, other, client):
        either(one, other, takes(gives(2), gives(0, DEAD)), refuses(REFUSED))
        answer = await client.post(CHAT, json=chat(max_tokens=5))
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "worker_lost"


async def test_one_who_is_full_is_asked_again(fake_model_dir: Path) -> None:
    full = refuses(pb.Error(code=pb.ERROR_CODE_OVERLOADED, message="Full."))
    async with two(fake_model_dir) as (one, other, client):
        asked = either(one, other, takes(gives(2), gives(0, DEAD)), full)
        task = asyncio.create_task(client.post(CHAT, json=chat(max_tokens=5)))
        await until(lambda: len(asked) > 4)
        one.answers = other.answers = takes(gives(3, DONE))
        answer = await task
    assert answer.status_code == 200


async def test_a_client_that_leaves_meanwhile_is_gone(fake_model_dir: Path) -> None:
    full = refuses(pb.Error(code=pb.ERROR_CODE_OVERLOADED, message="Full."))
    async with two(fake_model_dir, FAILOVER_SECONDS="60") as (one, other, client):
        asked = either(one, other, takes(gives(2), gives(0, DEAD)), full)
        with pytest.raises(httpx.ReadTimeout):
            await client.post(CHAT, json=chat(max_tokens=5), timeout=1.5)
        metrics = (await client.get("/metrics")).text
        assert "sluice_streams_active 0.0" in metrics
        count = len(asked)
        await asyncio.sleep(1)
        assert len(asked) == count


async def test_a_gateway_that_drains_out_of_time_looks_no_further(fake_model_dir: Path) -> None:
    full = refuses(pb.Error(code=pb.ERROR_CODE_OVERLOADED, message="Full."))
    settings = {"FAILOVER_SECONDS": "600", "DRAIN_SECONDS": "0.5"}
    async with (
        scripted_worker(fake_model_dir, made=Answering) as lone,
        httpx.AsyncClient(timeout=30) as client,
    ):
        assert isinstance(lone, Answering)
        with gateway(lone.address, wait=False, **settings) as front:
            await until_told(front.url + "/health", lambda body: body["status"] == "ok")
            asked = either(lone, lone, takes(gives(2), gives(0, DEAD)), full)
            task = asyncio.create_task(client.post(front.url + CHAT, json=chat(max_tokens=5)))
            await until(lambda: len(asked) > 1)
            front.process.signal(signal.SIGTERM)
            answer = await task
            assert answer.status_code == 503
            assert front.process.wait() == 0
