"""A worker's errors name the fields that the client sent, before and within an answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.connection import LAST_RETRY_SECONDS
from sluice_gateway.failures import error_for_client, without_place

from tests.processes import gateway, worker
from tests.scripted_worker import ScriptedWorker, scripted_worker, until_told

ASKED = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5}
FAILURE = pb.Error(
    code=pb.ERROR_CODE_INVALID_ARGUMENT, message="Too complex.", field="structured_output"
)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("sampling.allowed_token_ids", "allowed_token_ids"),
        ("sampling.thinking_budget", "thinking_token_budget"),
        ("bad_words", "bad_words"),
        ("prompt_ids", "prompt"),
        ("", None),
    ],
)
def test_a_field_has_the_clients_name(theirs: str, ours: str | None) -> None:
    error = pb.Error(code=pb.ERROR_CODE_INVALID_ARGUMENT, message="No.", field=theirs)
    assert error_for_client(error).param == ours


def test_a_place_in_a_grammar_is_told_apart_from_the_reason() -> None:
    told = 'Cannot be honoured: line 2, column 11: Unimplemented keys: ["not"]'
    assert without_place(told) == 'Cannot be honoured: Unimplemented keys: ["not"]'
    assert without_place("Too complex.") == "Too complex."


class FailingWorker(ScriptedWorker):
    """Takes each request, and then ends its rows with the failure."""

    async def Session(self, request_iterator, context):  # type: ignore[no-untyped-def,override]  # noqa: N802
        await context.read()
        await context.write(pb.SessionResponse(welcome=pb.Welcome(protocol_version=1)))
        await context.write(pb.SessionResponse(status=self._status))
        async for message in requests_of(context):
            if message.WhichOneof("message") == "submit":
                first = message.submit.rows[0].row_id
                await context.write(pb.SessionResponse(admission=pb.Admission(row_id=first)))
                step = pb.Step(row_ids=[first], token_counts=[0])
                step.finishes.add(row_id=first, reason=pb.FINISH_REASON_ERROR, error=FAILURE)
                await context.write(pb.SessionResponse(step=step))


async def requests_of(context: Any) -> AsyncIterator[pb.SessionRequest]:
    while isinstance(message := await context.read(), pb.SessionRequest):
        yield message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a+"}}, "structured_outputs"),
    ],
)
async def test_a_form_that_fails_within_the_answer_is_the_clients_field(
    fake_model_dir: Path, fields: dict[str, Any], param: str
) -> None:
    async with scripted_worker(fake_model_dir, made=FailingWorker) as failing:
        failing.say("ready")
        with gateway(failing.address, wait=False) as front:
            await until_told(
                front.url + "/health",
                lambda body: [m["state"] for m in body["models"]] == ["ready"],
            )
            async with httpx.AsyncClient(base_url=front.url) as client:
                answer = await client.post("/v1/chat/completions", json={**ASKED, **fields})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_a_gateway_hears_why_a_worker_failed_however_late_it_comes_by(
    tmp_path: Path,
) -> None:
    """The worker fails at once, and the gateway's next try may be its longest pause away."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with gateway(f"127.0.0.1:{port}", wait=False) as front:
        await asyncio.sleep(3 * LAST_RETRY_SECONDS)  # now the pauses are as long as they get
        with worker(tmp_path, port=port, ENGINE="fake"):
            body = await until_told(
                front.url + "/health", lambda body: body["workers"][0]["state"] == "failed"
            )
    assert body["workers"][0]["message"]
    assert str(tmp_path) not in str(body)
