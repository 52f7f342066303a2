"""Faults that touch one request, one worker or one frame, and must touch nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc
from sluice_gateway.discovery import Discovery
from sluice_gateway.errors import Unavailable
from sluice_gateway.generation import Generation, Signal
from sluice_gateway.routing import Router
from sluice_gateway.session import rows_on

from tests.conftest import write_fake_model
from tests.processes import Worker, gateway, worker
from tests.sse import chat, error_of, finish_reasons, stream

CHAT = "/v1/chat/completions"


@pytest.fixture
def fake_worker(fake_model_dir: Path) -> Iterator[Worker]:
    with worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="10") as started:
        yield started


def gauge(of: Worker, name: str) -> float:
    lines = [line for line in of.metrics().splitlines() if line.startswith(name + "{")]
    return float(lines[0].rsplit(" ", 1)[1])


def test_a_request_that_the_engine_cannot_take_fails_alone(fake_worker: Worker) -> None:
    with gateway(fake_worker.address) as front:
        bystander = stream(front.url + CHAT, chat(max_tokens=150))
        got = [next(bystander)]
        for directive in ('{"say": 5}', '{"say": ""}', '{"tokens": "x"}', "{broken"):
            answer = httpx.post(front.url + CHAT, json=chat("fake:" + directive, max_tokens=2))
            assert answer.status_code in {200, 400}, answer.text
        got += bystander
        assert finish_reasons(got) == {0: "length"}


def test_one_refused_prompt_of_several_leaves_nothing_behind(fake_worker: Worker) -> None:
    prompts = ["fake:{bad", *["x"] * 40]
    with gateway(fake_worker.address) as front:
        for _ in range(3):
            body = {"prompt": prompts, "max_tokens": 2000}
            answer = httpx.post(front.url + "/v1/completions", json=body, timeout=30)
            assert answer.status_code == 400
        deadline = time.monotonic() + 5
        while gauge(fake_worker, "sluice_num_requests_running"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "sluice_streams_active 0.0" in httpx.get(front.url + "/metrics").text
        front.process.signal(signal.SIGTERM)
        assert front.process.wait() == 0
        assert "Traceback" not in front.process.text()


def test_workers_of_unequal_limits_share_the_load(fake_model_dir: Path) -> None:
    options = {"ENGINE": "fake", "FAKE_STEP_MS": "20"}
    with (
        worker(fake_model_dir, MAX_MODEL_LEN="2000", **options) as small,
        worker(fake_model_dir, MAX_MODEL_LEN="4000", **options) as large,
        gateway(small.address, large.address, wait=False) as front,
    ):
        front.wait_ready()
        front.wait_workers(2)
        models = httpx.get(front.url + "/v1/models").json()["data"]
        assert [model["max_model_len"] for model in models] == [2000]
        running = [stream(front.url + CHAT, chat(max_tokens=300)) for _ in range(4)]
        for chunks in running:
            next(chunks)
        assert gauge(small, "sluice_num_requests_running") == 2
        assert gauge(large, "sluice_num_requests_running") == 2


def test_a_worker_that_refuses_is_not_the_last_word(fake_model_dir: Path) -> None:
    full = {"ENGINE": "fake", "FAKE_STEP_MS": "20", "BATCH_MAX": "1", "QUEUE_MAX": "0"}
    free = {**full, "BATCH_MAX": "8"}
    with (
        worker(fake_model_dir, **full) as one,
        worker(fake_model_dir, **free) as two,
        gateway(one.address, two.address) as front,
    ):
        front.wait_workers(2)
        running = [stream(front.url + CHAT, chat(max_tokens=100)) for _ in range(6)]
        for chunks in running:
            next(chunks)
        assert all(error_of(list(chunks)) is None for chunks in running)


def test_an_engine_that_is_stuck_gets_no_new_work_and_ends(fake_model_dir: Path) -> None:
    options = {"ENGINE": "fake", "FAKE_STEP_MS": "10", "ENGINE_STALL_SECONDS": "5"}
    with (
        worker(fake_model_dir, **options) as one,
        worker(fake_model_dir, **options) as two,
        gateway(one.address, two.address) as front,
    ):
        front.wait_workers(2)
        stuck = stream(front.url + CHAT, chat('fake:{"tokens": 2, "end": "hang"}'))
        next(stuck)
        time.sleep(3)
        for _ in range(4):
            assert httpx.post(front.url + CHAT, json=chat(max_tokens=3)).status_code == 200
        error = error_of(list(stuck))
        assert error is not None
        assert error["code"] == "worker_lost"
        deadline = time.monotonic() + 20
        while all(each.process.popen.poll() is None for each in (one, two)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        ended = one if one.process.popen.poll() is not None else two
        assert ended.process.wait() == 1
        assert "no step for 5 s" in ended.process.text()


def test_a_drain_that_runs_out_of_time_ends_streams_with_an_error(fake_worker: Worker) -> None:
    with gateway(fake_worker.address, DRAIN_SECONDS="0.5") as front:
        chunks = stream(front.url + CHAT, chat(max_tokens=5000))
        got = [next(chunks)]
        front.process.signal(signal.SIGTERM)
        got += chunks
        error = error_of(got)
        assert error is not None
        assert error["code"] == "draining"
        assert front.process.wait() == 0
        assert "Traceback" not in front.process.text()


def test_a_client_that_never_reads_is_left_in_time(fake_model_dir: Path) -> None:
    options = {"BATCH_MAX": "1", "QUEUE_MAX": "0", "FAKE_STEP_MS": "0"}
    with (
        worker(fake_model_dir, ENGINE="fake", **options) as fake,
        gateway(fake.address, QUEUE_MAX="0", CLIENT_STALL_SECONDS="1") as front,
    ):
        host, port = front.url.removeprefix("http://").split(":")
        with contextlib.closing(socket.socket()) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect((host, int(port)))
            body = json.dumps(chat(max_tokens=8000, stream=True)).encode()
            deaf.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            deadline = time.monotonic() + 20
            while httpx.post(front.url + CHAT, json=chat(max_tokens=1)).status_code != 200:
                assert time.monotonic() < deadline, "the place was never given back"
                time.sleep(0.2)


def test_a_tokenizer_that_cannot_be_loaded_is_told_of(tmp_path: Path) -> None:
    model = write_fake_model(tmp_path / "broken")
    with worker(model, ENGINE="fake", FAKE_LOAD_MS="1") as fake:
        fake.process.wait_for("ready: broken")
        with gateway(fake.address, wait=False) as front:
            front.wait_ready()
    (model / "tokenizer_config.json").write_text("{ not json")
    with (
        worker(model, ENGINE="fake") as fake,
        gateway(fake.address, wait=False) as front,
    ):
        deadline = time.monotonic() + 10
        while (told := front.health()["workers"][0])["state"] != "unusable":  # type: ignore[index]
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        time.sleep(1)  # heartbeats do not wipe it
        told = front.health()["workers"][0]  # type: ignore[index]
        assert "tokenizer" in told["message"]
        assert httpx.post(front.url + CHAT, json=chat()).status_code == 503


def test_sigterm_while_loading_is_quiet(fake_model_dir: Path) -> None:
    with worker(fake_model_dir, ENGINE="fake", FAKE_LOAD_MS="3000") as loading:
        loading.process.wait_for("loading")
        with gateway(loading.address, wait=False):
            time.sleep(0.5)
            loading.process.signal(signal.SIGTERM)
            assert loading.process.wait(10) == 0
        assert "Traceback" not in loading.process.text()


class OddWorker(worker_pb2_grpc.WorkerServiceServicer):
    """A worker of another release: it sends what this gateway does not understand."""

    sessions = 0

    def __init__(self, *frames: pb.SessionResponse) -> None:
        self.frames = frames

    async def Session(self, request_iterator, context):  # type: ignore[no-untyped-def,override]  # noqa: N802
        self.sessions += 1
        for frame in self.frames:
            await context.write(frame)
        await asyncio.sleep(60)


@contextlib.asynccontextmanager
async def odd_worker(*frames: pb.SessionResponse) -> AsyncIterator[tuple[OddWorker, str]]:
    server = grpc.aio.server()
    servicer = OddWorker(*frames)
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_a_frame_that_makes_no_sense_costs_a_session_not_the_connection() -> None:
    broken = pb.SessionResponse(step=pb.Step(row_ids=[1, 2], token_ids=[3]))
    async with odd_worker(broken) as (servicer, address):
        router = Router(Discovery((address,), 1), "test", 5)
        async with router.running(), asyncio.timeout(15):
            while servicer.sessions < 2:
                await asyncio.sleep(0.02)


async def test_a_state_of_a_newer_release_is_told_by_its_number() -> None:
    status = pb.SessionResponse(status=pb.Status(state=99, model_name="m"))  # type: ignore[arg-type]
    async with odd_worker(status) as (_, address):
        router = Router(Discovery((address,), 1), "test", 5)
        async with router.running(), asyncio.timeout(15):
            while not router.connections or router.connections[0].status is None:
                await asyncio.sleep(0.02)
            assert router.connections[0].state == "state 99"
            assert not router.connections[0].ready


class Moving(Discovery):
    """Addresses that the test changes."""

    def __init__(self, first: str) -> None:
        self.queue: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.queue.put_nowait(frozenset({first}))

    async def changes(self) -> AsyncIterator[frozenset[str]]:
        while True:
            yield await self.queue.get()


async def test_an_address_that_goes_away_finishes_its_rows_first(fake_worker: Worker) -> None:
    discovery = Moving(fake_worker.address)
    router = Router(discovery, "test", 5)
    async with router.running(), asyncio.timeout(30):
        while not router.ready_models():
            await asyncio.sleep(0.02)
        model = router.ready_models()[0]
        picked = router.pick(model)
        assert picked is not None
        sampling = pb.SamplingParams(max_tokens=100, top_p=1, repetition_penalty=1)
        generation = Generation([5], sampling, [1], Signal())
        with rows_on(picked.session, generation):
            await generation.admission()
            discovery.queue.put_nowait(frozenset())
            while router.connections:
                await asyncio.sleep(0.02)
            assert router.pick(model) is None
            while generation.rows[0].finish is None:
                assert generation.failure is None
                await asyncio.sleep(0.02)
        assert len(generation.rows[0].ids) == 100
        while picked.session is not None:
            await asyncio.sleep(0.02)


async def test_a_session_that_breaks_before_admission_says_so() -> None:
    async with odd_worker() as (_, address), grpc.aio.insecure_channel(address) as channel:
        from sluice_gateway.session import SessionBroken, WorkerSession

        session = WorkerSession("test", silence_seconds=0.3)
        running = asyncio.create_task(
            session.run(worker_pb2_grpc.WorkerServiceStub(channel), lambda status: None)
        )
        await asyncio.sleep(0.05)
        sampling = pb.SamplingParams(max_tokens=1)
        generation = Generation([5], sampling, [1], Signal())
        with rows_on(session, generation), pytest.raises(Unavailable) as caught:
            await generation.admission()
        assert caught.value.code == "worker_lost"
        assert caught.value.headers["Retry-After"]
        with pytest.raises(SessionBroken, match="said nothing"):
            await running
