"""Requests that wait for their model: until it is there, in bounds, and not for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sluice_gateway import waiting
from sluice_gateway.errors import (
    InvalidRequest,
    ModelFailed,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    Unavailable,
)
from sluice_gateway.gateway import Gateway
from sluice_gateway.loading import Loading
from sluice_gateway.model import ServedModel
from sluice_gateway.settings import Settings
from sluice_gateway.waiting import wait_for_model, wait_seconds

from tests import processes
from tests.load_gate import LoadGate
from tests.scripted_worker import scripted_worker, until, until_told

TOKENIZE = "/tokenize"
NOWHERE = "127.0.0.1:1"


@contextlib.asynccontextmanager
async def gateway(*addresses: str, queue_max: int = 10) -> AsyncIterator[Gateway]:
    settings = Settings(worker_addresses=",".join(addresses), queue_max=queue_max)
    built = Gateway.build(settings)
    async with built.running():
        yield built


@pytest.fixture
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits looks only when it is woken."""
    monkeypatch.setattr(waiting, "TELL_SECONDS", 60.0)


def test_without_the_header_nothing_waits() -> None:
    assert wait_seconds([(b"host", b"x")], 600) is None


@pytest.mark.parametrize(("value", "seconds"), [(b"60", 60), (b"0.5", 0.5), (b"6000", 600)])
def test_the_header_is_in_seconds_and_capped(value: bytes, seconds: float) -> None:
    assert wait_seconds([(b"x-sluice-wait", value)], 600) == seconds


@pytest.mark.parametrize(
    "value", [b"", b"0", b"0.0", b"-1", b"soon", b"inf", b"nan", b"1e3", b"1_0", b"5 s", b"\xff"]
)
def test_a_header_that_is_no_number_above_zero_is_refused_by_name(value: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wait_seconds([(b"x-sluice-wait", value)], 600)
    assert caught.value.param == "x-sluice-wait"
    assert "x-sluice-wait" in caught.value.message


@pytest.mark.usefixtures("no_ticks")
async def test_who_waits_is_woken_when_the_model_is_ready(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as worker, gateway(worker.address) as front:
        for state in ("resolving", "downloading", "verifying", "loading", "warming"):
            worker.say(state)
            await until(lambda state=state: front.router.loading("m").state == state)  # type: ignore[misc]
            if state == "resolving":
                waits = [
                    asyncio.create_task(wait_for_model(front, name, 60)) for name in ("m", None)
                ]
        assert not any(task.done() for task in waits)
        worker.say("ready")
        async with asyncio.timeout(5):
            models = [await task for task in waits]
        assert [model.name for model in models] == ["m", "m"]
        assert front.admission.rows == 0


async def test_who_waits_is_told_how_far_the_model_is(fake_model_dir: Path) -> None:
    told: list[Loading] = []

    async def tell(loading: Loading) -> None:
        told.append(loading)

    async with scripted_worker(fake_model_dir) as worker, gateway(worker.address) as front:
        began = time.monotonic()
        waits = asyncio.create_task(wait_for_model(front, "m", 60, tell=tell))
        await until(lambda: told)
        for done in range(24):
            worker.say("downloading", bytes_done=done, bytes_total=24, eta_seconds=24 - done)
            await asyncio.sleep(0.1)
        assert [each.state for each in told[:2]] == ["connecting", "downloading"]
        assert 3 <= len(told) <= 3 + (time.monotonic() - began)
        numbers = [each.bytes_done or 0 for each in told[1:]]
        assert numbers == sorted(set(numbers))
        worker.say("ready")
        async with asyncio.timeout(5):
            assert isinstance(await waits, ServedModel)


async def test_when_the_time_is_over_it_says_how_far_the_model_is(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as worker, gateway(worker.address) as front:
        worker.say("downloading", bytes_done=1, bytes_total=2, eta_seconds=40)
        began = time.monotonic()
        with pytest.raises(ModelLoading) as caught:
            await wait_for_model(front, "m", 0.5)
        assert 0.45 < time.monotonic() - began < 3
        assert caught.value.loading.bytes_total == 2
        assert caught.value.headers["Retry-After"] == "40"
        assert front.admission.rows == 0


@pytest.mark.usefixtures("no_ticks")
async def test_a_model_that_fails_is_waited_for_no_longer(fake_model_dir: Path) -> None:
    async with (
        scripted_worker(fake_model_dir) as one,
        scripted_worker(fake_model_dir) as two,
        gateway(one.address, two.address) as front,
    ):
        one.say("failed", message="no space")
        two.say("downloading")
        await until(lambda: front.router.all_heard)
        waits = asyncio.create_task(wait_for_model(front, "m", 60))
        await asyncio.sleep(0.3)
        assert not waits.done()
        two.say("failed", message="no space")
        async with asyncio.timeout(5):
            with pytest.raises(ModelFailed, match="no space"):
                await waits


@pytest.mark.usefixtures("no_ticks")
async def test_a_model_unknown_to_all_workers_is_waited_for_no_longer(fake_model_dir: Path) -> None:
    async with (
        scripted_worker(fake_model_dir) as one,
        scripted_worker(fake_model_dir, "other") as two,
        gateway(one.address, two.address) as front,
    ):
        one.say("ready")
        await until(lambda: front.router.ready_models())
        waits = asyncio.create_task(wait_for_model(front, "nobody", 60))
        await asyncio.sleep(0.3)
        assert not waits.done()  # the other worker may be the one
        two.say("resolving")
        async with asyncio.timeout(5):
            with pytest.raises(ModelNotFound):
                await waits
        with pytest.raises(InvalidRequest, match="name one of m, other"):
            await wait_for_model(front, None, 60)


async def test_before_a_worker_is_heard_every_model_may_come() -> None:
    async with gateway(NOWHERE) as front:
        with pytest.raises(ModelLoading) as caught:
            await wait_for_model(front, "m", 0.3)
        assert caught.value.loading.state == "connecting"


async def test_a_worker_that_is_lost_is_waited_for(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as worker, gateway(worker.address) as front:
        worker.say("loading")
        waits = asyncio.create_task(wait_for_model(front, "m", 60))
        await until(lambda: front.router.loading("m").state == "loading")
        worker.break_sessions.set()
        await until(lambda: front.router.loading("m").state == "lost")
        worker.break_sessions.clear()
        worker.say("ready")
        async with asyncio.timeout(10):
            assert (await waits).name == "m"


@pytest.mark.usefixtures("no_ticks")
async def test_a_gateway_that_drains_lets_nobody_wait(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as worker, gateway(worker.address) as front:
        worker.say("loading")
        waits = asyncio.create_task(wait_for_model(front, "m", 60))
        await until(lambda: front.admission.rows)
        assert await front.admission.drain(5)
        for late in (waits, wait_for_model(front, "m", 60)):
            with pytest.raises(Unavailable) as caught:
                await late
            assert caught.value.code == "draining"


async def test_so_many_wait_and_no_more(fake_model_dir: Path) -> None:
    async with (
        scripted_worker(fake_model_dir) as worker,
        gateway(worker.address, queue_max=3) as front,
    ):
        worker.say("loading")
        await until(lambda: front.router.all_heard)
        first = asyncio.create_task(wait_for_model(front, "m", 60, rows=2))
        second = asyncio.create_task(wait_for_model(front, "m", 60))
        await until(lambda: front.admission.rows == 3)
        told: list[Loading] = []

        async def tell(loading: Loading) -> None:
            told.append(loading)

        with pytest.raises(Overloaded):
            await wait_for_model(front, "m", 60, tell=tell)
        assert not told
        first.cancel()  # its client left
        await until(lambda: front.admission.rows == 1)
        third = asyncio.create_task(wait_for_model(front, "m", 60))
        worker.say("ready")
        async with asyncio.timeout(5):
            assert await second is await third
        assert front.admission.rows == 0


async def test_names_that_clients_make_up_share_one_bound() -> None:
    async with gateway(NOWHERE, queue_max=2) as front:
        waits = [asyncio.create_task(wait_for_model(front, name, 60)) for name in ("a", "b")]
        await until(lambda: front.admission.rows == 2)
        with pytest.raises(Overloaded):
            await wait_for_model(front, "c", 60)
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def test_a_request_that_waits_runs_when_its_model_is_ready(
    fake_model_dir: Path, tmp_path: Path
) -> None:
    gate = LoadGate(tmp_path)
    with (
        processes.worker(fake_model_dir, **gate.environment) as worker,
        processes.gateway(worker.address, wait=False) as front,
    ):
        url, body = front.url + TOKENIZE, {"prompt": "hello"}
        assert httpx.post(url, json=body).status_code == 503
        short = httpx.post(url, json=body, headers={"x-sluice-wait": "0.2"})
        assert short.json()["error"]["code"] == "model_loading"
        gate.open_after(0.5)
        waited = httpx.post(url, json=body, headers={"x-sluice-wait": "30"}, timeout=40)
        assert waited.status_code == 200
        assert waited.json()["tokens"]
        for value in ("0", "soon"):  # also when there is nothing to wait for
            refused = httpx.post(url, json=body, headers={"x-sluice-wait": value})
            assert refused.status_code == 400
            assert refused.json()["error"]["param"] == "x-sluice-wait"


async def test_a_wait_ends_with_its_bound_its_client_or_its_gateway(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir) as worker:
        worker.say("loading")
        options = {"QUEUE_MAX": "1", "WAIT_MAX_SECONDS": "3"}
        with processes.gateway(worker.address, wait=False, **options) as front:
            await until_told(front.url + "/health", lambda body: body["models"])
            async with httpx.AsyncClient(base_url=front.url, timeout=20) as client:

                async def ask() -> httpx.Response:
                    headers = {"x-sluice-wait": "3600"}
                    return await client.post(TOKENIZE, json={"prompt": "x"}, headers=headers)

                capped = asyncio.create_task(ask())
                await asyncio.sleep(0.5)
                crowded = await ask()
                assert crowded.status_code == 429
                assert crowded.headers["retry-after"]
                assert (await capped).json()["error"]["code"] == "model_loading"

                leaves = asyncio.create_task(ask())
                await asyncio.sleep(0.5)
                leaves.cancel()
                async with asyncio.timeout(2):
                    left = "sluice_client_disconnects_total 1.0"
                    while left not in (await client.get("/metrics")).text:
                        await asyncio.sleep(0.05)
                stays = asyncio.create_task(ask())  # the place is free again
                await asyncio.sleep(0.5)
                front.process.signal(signal.SIGTERM)
                assert (await stays).json()["error"]["code"] == "draining"
            assert await asyncio.to_thread(front.process.wait) == 0
            assert "Traceback" not in front.process.text()
