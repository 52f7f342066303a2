"""What a client sees of a request that waits, as ASGI messages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sluice_gateway.errors import ApiError, ModelFailed, ModelLoading, Overloaded
from sluice_gateway.gateway import Gateway
from sluice_gateway.http_protocol import ABORT_CONNECTION
from sluice_gateway.loading import Loading
from sluice_gateway.model import ServedModel
from sluice_gateway.record import RequestRecord
from sluice_gateway.settings import Settings
from sluice_gateway.waiting import Tell
from sluice_gateway.waiting_response import WaitingResponse, WaitingStream
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

DONE = b"data: [DONE]\n\n"
HALF = Loading("downloading", bytes_done=1, bytes_total=2)


class Client:
    """Takes what is sent, and leaves when it is told to."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.aborted = False
        self.record = RequestRecord("req-1")

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        await self.reads.wait()

    def abort(self) -> None:
        self.aborted = True

    @property
    def scope(self) -> Scope:
        return {
            "type": "http",
            "state": {"record": self.record},
            "extensions": {ABORT_CONNECTION: self.abort},
        }

    @property
    def heads(self) -> list[int]:
        return [each["status"] for each in self.sent if each["type"] == "http.response.start"]

    @property
    def body(self) -> bytes:
        return b"".join(each.get("body", b"") for each in self.sent)


class Answer(Response):
    """An answer that sends two pieces, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if isinstance(self.failure, ApiError):
            raise self.failure
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer", "more_body": True})
        if self.failure:
            raise self.failure
        await send({"type": "http.response.body", "body": DONE, "more_body": False})


def response(
    kind: type[WaitingResponse],
    *,
    tells: int = 1,
    failure: Exception | None = None,
    answer: Response | None = None,
    forever: bool = False,
    seconds: float = 0,
    **settings: Any,
) -> WaitingResponse:
    """One whose model is there, or fails, after it was told of so often."""

    async def waiting(tell: Tell | None = None) -> ServedModel:
        for _ in range(tells):
            if tell is not None:
                await tell(HALF)
        if forever:
            await asyncio.sleep(60)
        if failure is not None:
            raise failure
        return object()  # type: ignore[return-value]  # whatever it is, it is handed on

    async def answering(model: ServedModel) -> Response:
        return answer or Answer()

    return kind(Gateway.build(Settings(**settings)), waiting, answering, seconds)


async def test_a_stream_begins_at_once_and_goes_on_with_its_answer() -> None:
    client = Client()
    waits = response(WaitingStream, tells=2)
    await waits(client.scope, client.receive, client.send)
    assert client.heads == [200]
    assert dict(client.sent[0]["headers"])[b"content-type"].startswith(b"text/event-stream")
    first, second, rest = client.body.split(b"\n\n", 2)
    assert first == second
    assert json.loads(first.removeprefix(b": model_loading ")) == HALF.as_json()
    assert rest == b"answer" + DONE
    assert client.sent[-1]["more_body"] is False


async def test_a_stream_that_need_not_wait_begins_with_its_answer() -> None:
    client = Client()
    await response(WaitingStream, tells=0)(client.scope, client.receive, client.send)
    assert client.heads == [200]
    assert client.body == b"answer" + DONE


@pytest.mark.parametrize("in_answer", [False, True])
async def test_an_error_of_a_begun_stream_is_its_last_event(in_answer: bool) -> None:
    client = Client()
    error = ModelLoading("m", HALF)
    options: dict[str, Any] = {"answer": Answer(error)} if in_answer else {"failure": error}
    await response(WaitingStream, **options)(client.scope, client.receive, client.send)
    assert client.heads == [200]
    comment, event, done, end = client.body.split(b"\n\n")
    assert comment.startswith(b": model_loading ")
    assert json.loads(event.removeprefix(b"data: ")) == {"error": error.as_json()}
    assert (done + b"\n\n", end) == (DONE, b"")
    assert client.sent[-1]["more_body"] is False


@pytest.mark.parametrize("kind", [WaitingResponse, WaitingStream])
async def test_an_error_before_the_first_byte_is_the_status(kind: type[WaitingResponse]) -> None:
    client = Client()
    for error in (Overloaded("full"), ModelFailed("m", "no space")):
        with pytest.raises(type(error)):
            await response(kind, tells=0, failure=error)(client.scope, client.receive, client.send)
    assert not client.sent


async def test_a_fault_of_ours_does_not_let_a_stream_just_stop() -> None:
    client = Client()
    with pytest.raises(RuntimeError):
        await response(WaitingStream, failure=RuntimeError("secret"))(
            client.scope, client.receive, client.send
        )
    assert client.body.endswith(DONE)
    assert b"internal_error" in client.body
    assert b"secret" not in client.body


async def test_an_answer_that_has_begun_tells_of_its_own_faults() -> None:
    client = Client()
    with pytest.raises(RuntimeError):
        await response(WaitingStream, answer=Answer(RuntimeError()))(
            client.scope, client.receive, client.send
        )
    assert client.body.endswith(b"answer")


async def test_a_whole_answer_is_all_that_is_sent() -> None:
    client = Client()
    await response(WaitingResponse)(client.scope, client.receive, client.send)
    assert client.heads == [200]
    assert client.body == b"answer" + DONE


@pytest.mark.parametrize("kind", [WaitingResponse, WaitingStream])
async def test_a_client_that_leaves_is_waited_for_no_longer(kind: type[WaitingResponse]) -> None:
    client = Client()
    waits = response(kind, forever=True)
    serving = asyncio.create_task(waits(client.scope, client.receive, client.send))
    await asyncio.sleep(0.05)
    client.left.set()
    async with asyncio.timeout(5):
        await serving
    assert b"answer" not in client.body
    assert client.record.disconnected


async def test_a_client_that_takes_nothing_is_left() -> None:
    client = Client()
    client.reads.clear()
    waits = response(WaitingStream, client_stall_seconds=0.1)
    async with asyncio.timeout(5):
        await waits(client.scope, client.receive, client.send)
    assert client.aborted


class Crowded(Answer):
    """An answer for which there is no room the first times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.times -= 1
        if self.times >= 0:
            raise Overloaded("full")
        await super().__call__(scope, receive, send)


async def test_one_who_waited_waits_for_room_too() -> None:
    client = Client()
    waits = response(WaitingStream, answer=Crowded(times=2), seconds=30)
    await waits(client.scope, client.receive, client.send)
    assert client.heads == [200]
    assert client.body.count(b": keep-alive\n\n") == 2
    assert client.body.endswith(b"answer" + DONE)

    client = Client()
    waits = response(WaitingResponse, answer=Crowded(times=1), seconds=30)
    await waits(client.scope, client.receive, client.send)
    assert client.body == b"answer" + DONE


async def test_room_is_waited_for_no_longer_than_was_asked() -> None:
    client = Client()
    with pytest.raises(Overloaded):
        await response(WaitingResponse, answer=Crowded(times=99), seconds=0.1)(
            client.scope, client.receive, client.send
        )


async def test_a_client_that_leaves_while_there_is_no_room_is_left() -> None:
    client = Client()
    waits = response(WaitingResponse, answer=Crowded(times=10**9), seconds=60)
    serving = asyncio.create_task(waits(client.scope, client.receive, client.send))
    await asyncio.sleep(0.05)
    client.left.set()
    await asyncio.wait_for(serving, 10)
    assert client.sent == []


async def test_a_client_that_takes_nothing_while_there_is_no_room_is_left() -> None:
    class Stuck(Client):
        async def send(self, message: Message) -> None:
            if b"keep-alive" in message.get("body", b""):
                self.reads.clear()
            await super().send(message)

    client = Stuck()
    waits = response(
        WaitingStream, answer=Crowded(times=10**9), seconds=60, client_stall_seconds=0.1
    )
    await asyncio.wait_for(waits(client.scope, client.receive, client.send), 10)
    assert client.aborted
