"""The service over real gRPC, with the fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.server import SERVICE_NAME
from tokenizers import Tokenizer

from tests.worker.sessions import Client, fake_settings, serving, submit

Start = Callable[..., contextlib.AbstractAsyncContextManager[Client]]


@pytest.fixture
def start(fake_model_dir: Path) -> Start:
    @contextlib.asynccontextmanager
    async def start(
        lora_modules: tuple[tuple[str, str], ...] = (), **fake: object
    ) -> AsyncIterator[Client]:
        settings = fake_settings(fake_model_dir, lora_modules=lora_modules, fake=fake)
        async with serving(settings) as (client, _):
            yield client

    return start


async def test_a_session_welcomes_admits_and_streams(start: Start, fake_model_dir: Path) -> None:
    async with start(text="Hello there.") as client:
        await client.open()
        assert (await client.next("welcome")).welcome.protocol_version == 1
        await client.until_ready()
        await client.call.write(submit())
        admission = (await client.next("admission")).admission
        assert admission.row_id == 1
        assert not admission.HasField("error")
        ids, finish = await client.tokens(1)
    tokenizer = Tokenizer.from_file(str(fake_model_dir / "tokenizer.json"))
    assert ids == tokenizer.encode("Hello there.").ids[:5]
    assert finish.reason == pb.FINISH_REASON_LENGTH


async def test_another_protocol_version_is_refused_with_both_named(start: Start) -> None:
    async with start() as client:
        await client.open(version=99)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call.read()
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "99" in caught.value.details()
    assert "version 1" in caught.value.details()


async def test_the_welcome_names_the_host(start: Start) -> None:
    async with start() as client:
        await client.open()
        welcome = (await client.next("welcome")).welcome
    assert welcome.host_name == socket.gethostname()


async def test_a_session_must_begin_with_hello(start: Start) -> None:
    async with start() as client:
        client.call = client.stub.Session()
        await client.call.write(submit())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call.read()
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_bad_request_is_answered_and_the_session_lives(start: Start) -> None:
    async with start() as client:
        await client.open()
        await client.until_ready()
        await client.call.write(submit(1, prompt_ids=[10**6]))
        refused = (await client.next("admission")).admission
        assert refused.error.code == pb.ERROR_CODE_INVALID_ARGUMENT
        assert refused.error.field == "prompt_ids"
        await client.call.write(submit(2))
        assert len((await client.tokens(2))[0]) == 5


async def test_a_row_id_in_use_is_refused(start: Start) -> None:
    async with start(step_ms=20) as client:
        await client.open()
        await client.until_ready()
        await client.call.write(submit(1))
        await client.call.write(submit(1))
        assert not (await client.next("admission")).admission.HasField("error")
        second = (await client.next("admission")).admission
        assert second.error.field == "rows.row_id"


async def test_while_the_model_loads_submit_is_unavailable_and_health_tells(start: Start) -> None:
    async with start(load_ms=1500) as client:
        await client.open()
        await client.call.write(submit())
        refused = (await client.next("admission")).admission
        assert refused.error.code == pb.ERROR_CODE_UNAVAILABLE
        health = health_pb2_grpc.HealthStub(client.channel)
        alive = await health.Check(health_pb2.HealthCheckRequest(service=""))
        assert alive.status == health_pb2.HealthCheckResponse.SERVING
        ready = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE_NAME))
        assert ready.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.stub.GetModel(pb.GetModelRequest())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        await client.until_ready()
        ready = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE_NAME))
        assert ready.status == health_pb2.HealthCheckResponse.SERVING


async def test_an_aborted_row_says_nothing_more_and_frees_its_place(start: Start) -> None:
    async with start(step_ms=5) as client:
        await client.open()
        await client.until_ready()
        endless = pb.SamplingParams(max_tokens=5000, top_p=1, repetition_penalty=1)
        await client.call.write(submit(1, sampling=endless))
        await client.next("step")
        await client.call.write(pb.SessionRequest(abort=pb.Abort(row_ids=[1, 77])))
        while (await client.next("status")).status.rows_running:
            pass


async def test_rows_of_a_gateway_that_went_away_are_aborted(start: Start) -> None:
    async with start(step_ms=5) as client:
        await client.open()
        await client.until_ready()
        endless = pb.SamplingParams(max_tokens=5000, top_p=1, repetition_penalty=1)
        await client.call.write(submit(1, sampling=endless))
        await client.next("step")
        client.call.cancel()
        await client.open()
        while (await client.next("status")).status.rows_running:
            pass


async def test_the_tokenizer_comes_whole_and_under_its_hash(
    start: Start, fake_model_dir: Path
) -> None:
    async with start() as client:
        await client.open()
        await client.until_ready()
        model = await client.stub.GetModel(pb.GetModelRequest())
        files: dict[str, bytes] = {}
        request = pb.GetTokenizerRequest(tokenizer_hash=model.tokenizer_hash)
        async for piece in client.stub.GetTokenizer(request):
            files[piece.file_name] = files.get(piece.file_name, b"") + piece.data
        assert files["tokenizer.json"] == (fake_model_dir / "tokenizer.json").read_bytes()
        assert model.name == "fake-model"
        assert list(model.eos_token_ids) == [2, 0]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in client.stub.GetTokenizer(pb.GetTokenizerRequest(tokenizer_hash="x")):
                pass
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_reflection_describes_the_service(start: Start) -> None:
    async with start() as client:

        def services() -> list[str]:
            target = f"127.0.0.1:{client.port}"
            with grpc.insecure_channel(target) as channel:
                return list(ProtoReflectionDescriptorDatabase(channel).get_services())

        assert SERVICE_NAME in await asyncio.to_thread(services)


ADAPTERS = (("poet", "org/poet"), ("clerk", "org/clerk"))


async def test_adapters_are_told_of_from_the_start_and_described(start: Start) -> None:
    async with start(ADAPTERS, load_ms=300) as client:
        await client.open()
        first = (await client.next("status")).status
        assert first.state != pb.WORKER_STATE_READY
        assert list(first.adapter_names) == ["poet", "clerk"]
        await client.until_ready()
        model = await client.stub.GetModel(pb.GetModelRequest())
        assert [each.name for each in model.adapters] == ["poet", "clerk"]
        fingerprints = {model.fingerprint, *(each.fingerprint for each in model.adapters)}
        assert len(fingerprints) == 3
        assert not model.structured_output


async def test_rows_of_an_adapter_are_the_adapters(start: Start, fake_model_dir: Path) -> None:
    tokenizer = Tokenizer.from_file(str(fake_model_dir / "tokenizer.json"))
    async with start(ADAPTERS, text="Hello there.") as client:
        await client.open()
        await client.until_ready()
        said = []
        sampling = pb.SamplingParams(max_tokens=12, top_p=1, repetition_penalty=1)
        for row_id, adapter in enumerate(("", "poet", "clerk"), 1):
            await client.call.write(submit(row_id, adapter=adapter, sampling=sampling))
            said.append(tokenizer.decode((await client.tokens(row_id))[0]))
        assert said[0].startswith("Hello")
        assert said[1].startswith("poet: H")
        assert said[2].startswith("clerk: H")
        await client.call.write(submit(9, adapter="judge"))
        refused = await client.admission(9)
        assert (refused.error.code, refused.error.field) == (
            pb.ERROR_CODE_INVALID_ARGUMENT,
            "adapter",
        )


async def test_status_tells_of_the_prefix_cache(start: Start) -> None:
    async with start() as client:
        await client.open()
        await client.until_ready()
        for row_id in (1, 2):
            await client.call.write(submit(row_id))
            await client.tokens(row_id)
        status = (await client.next("status")).status
        assert (status.prefix_cache_queries, status.prefix_cache_hits) == (4, 2)


@pytest.mark.parametrize("name", ["WORKER_ADDRESS", "METRICS_ADDRESS"])
def test_a_port_in_use_is_one_line_and_status_2(name: str, fake_model_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run_worker(MODEL_ID=str(fake_model_dir), ENGINE="fake", **{name: address})
    assert ended.returncode == 2
    assert [line for line in ended.stderr.splitlines() if name in line and address in line]


def test_an_engine_that_is_not_there_is_one_line_and_status_2() -> None:
    ended = run_worker(ENGINE="vllm")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "ENGINE=vllm" in ended.stderr


def run_worker(**environment: str) -> subprocess.CompletedProcess[str]:
    defaults = {"WORKER_ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0"}
    return subprocess.run(
        [sys.executable, "-m", "sluice_worker"],
        env={**os.environ, **defaults, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
