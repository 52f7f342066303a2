"""Adapters are served as models of their own, by the workers that have them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sluice_gateway.errors import InvalidRequest, ModelLoading, ModelNotFound
from sluice_gateway.gateway import Gateway
from sluice_gateway.settings import Settings
from sluice_gateway.waiting import wait_for_model

from tests import processes
from tests.conftest import TEXT, write_fake_model
from tests.load_gate import LoadGate
from tests.processes import gateway, worker
from tests.scripted_worker import ScriptedWorker, scripted_worker, until, until_told
from tests.sse import chat, chat_text, stream

CHAT = "/v1/chat/completions"
ADAPTERS = "poet=org/poet, clerk=org/clerk"


@pytest.fixture(scope="module")
def front(fake_model_dir: Path) -> Iterator[processes.Gateway]:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_TEXT=TEXT, LORA_MODULES=ADAPTERS) as fake,
        gateway(fake.address, wait=False) as started,
    ):
        started.wait_ready(models=3)
        yield started


def ask(front: processes.Gateway, **fields: Any) -> Any:
    answer = httpx.post(front.url + CHAT, json=chat(max_tokens=12, **fields), timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def content(answer: Any) -> str:
    text: str = answer["choices"][0]["message"]["content"]
    return text


def test_each_name_answers_for_itself(front: processes.Gateway) -> None:
    answers = {name: ask(front, model=name) for name in ("fake-model", "poet", "clerk")}
    assert {name: answer["model"] for name, answer in answers.items()} == {
        name: name for name in answers
    }
    assert content(answers["fake-model"]).startswith("The quick")
    assert content(answers["poet"]).startswith("poet: The")
    assert content(answers["clerk"]).startswith("clerk: The")
    assert len({answer["system_fingerprint"] for answer in answers.values()}) == 3
    chunks = list(stream(front.url + CHAT, chat(model="poet", max_tokens=12)))
    assert chat_text(chunks) == content(answers["poet"])
    assert {chunk["model"] for chunk in chunks} == {"poet"}


def test_completions_and_tokenize_take_an_adapters_name(front: processes.Gateway) -> None:
    body = {"model": "clerk", "prompt": ["a", "b"], "max_tokens": 12}
    choices = httpx.post(front.url + "/v1/completions", json=body).json()["choices"]
    assert [choice["text"].startswith("clerk: ") for choice in choices] == [True, True]
    by_name = [
        httpx.post(front.url + "/tokenize", json={"model": name, "prompt": TEXT}).json()
        for name in ("fake-model", "poet")
    ]
    assert by_name[0] == by_name[1]


def test_adapters_do_not_make_the_only_model_ambiguous(front: processes.Gateway) -> None:
    answer = ask(front)
    assert answer["model"] == "fake-model"
    assert content(answer).startswith("The quick")


def test_models_are_listed_with_their_parents(front: processes.Gateway) -> None:
    listed = httpx.get(front.url + "/v1/models").json()["data"]
    family = {each["id"]: (each["parent"], each["root"]) for each in listed}
    assert family == {
        "clerk": ("fake-model", "fake-model"),
        "fake-model": (None, "fake-model"),
        "poet": ("fake-model", "fake-model"),
    }
    assert {each["state"] for each in listed} == {"ready"}
    assert len({(each["max_model_len"], each["created"]) for each in listed}) == 1
    assert httpx.get(front.url + "/v1/models/poet").json() in listed
    missing = httpx.get(front.url + "/v1/models/judge").json()["error"]
    assert missing["code"] == "model_not_found"
    assert "poet" in missing["message"]


def test_health_and_metrics_tell_of_each_name(front: processes.Gateway) -> None:
    ask(front, model="poet")
    refused = httpx.post(front.url + CHAT, json=chat(model="judge"))
    assert refused.status_code == 404
    health = httpx.get(front.url + "/health").json()
    assert [(each["id"], each["workers_ready"]) for each in health["models"]] == [
        ("clerk", 1),
        ("fake-model", 1),
        ("poet", 1),
    ]
    (told,) = health["workers"]
    assert (told["model"], told["adapters"]) == ("fake-model", ["clerk", "poet"])
    metrics = httpx.get(front.url + "/metrics").text
    for name in ("fake-model", "poet"):
        assert f'sluice_workers{{model_name="{name}",state="ready"}} 1.0' in metrics
        assert f'sluice_e2e_request_latency_seconds_count{{model_name="{name}"}}' in metrics
    assert "judge" not in metrics


def test_only_workers_that_have_an_adapter_are_asked_for_it(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake") as old,
        worker(fake_model_dir, ENGINE="fake", LORA_MODULES="poet=x") as new,
        gateway(old.address, new.address, wait=False) as front,
    ):
        front.wait_ready(models=2)
        front.wait_workers(2)
        for _ in range(6):
            assert content(ask(front, model="poet")).startswith("poet: ")
            assert not content(ask(front)).startswith("poet: ")
        health: Any = front.health()
        assert {each["id"]: each["workers_ready"] for each in health["models"]} == {
            "fake-model": 2,
            "poet": 1,
        }


def test_an_adapter_on_its_way_is_a_503_with_numbers_and_can_be_waited_for(
    fake_model_dir: Path, tmp_path: Path
) -> None:
    gate = LoadGate(tmp_path)
    with (
        worker(fake_model_dir, LORA_MODULES="poet=x", **gate.environment) as fake,
        gateway(fake.address, wait=False) as front,
        httpx.Client(base_url=front.url, timeout=30) as client,
    ):
        asyncio.run(until_told(front.url + "/health", lambda body: len(body["models"]) == 2))
        refused = client.post(CHAT, json=chat(model="poet"))
        assert refused.status_code == 503
        error = refused.json()["error"]
        assert error["code"] == "model_loading"
        assert error["message"].startswith("The model `poet` is ")
        assert error["loading"]["state"] == "loading"
        told = client.get("/v1/models/poet").json()
        assert (told["state"], told["parent"]) == ("loading", "fake-model")
        gate.open_after(0.5)
        headers = {"x-sluice-wait": "20"}
        answer = client.post(CHAT, json=chat(model="poet", max_tokens=12), headers=headers)
        assert answer.status_code == 200
        assert content(answer.json()).startswith("poet: ")


def test_a_model_has_its_name_before_an_adapter_of_another(tmp_path: Path) -> None:
    one, two = (write_fake_model(tmp_path / name) for name in ("one", "two"))
    with (
        worker(one, ENGINE="fake", LORA_MODULES="two=x") as first,
        worker(two, ENGINE="fake", FAKE_TEXT="I am two.") as second,
        gateway(first.address, second.address, wait=False) as front,
    ):
        front.wait_ready(models=2)
        for _ in range(4):
            assert content(ask(front, model="two")).startswith("I am two.")
        warning = "two is the name of a model and of an adapter of one"
        front.process.wait_for(warning)
        assert front.process.text().count(warning) == 1
        told = httpx.get(front.url + "/v1/models/two").json()
        assert told["parent"] is None
        unnamed = httpx.post(front.url + CHAT, json=chat())
        assert unnamed.status_code == 400


# With workers that say what the test wants


@contextlib.asynccontextmanager
async def routed(*workers: ScriptedWorker) -> AsyncIterator[Gateway]:
    built = Gateway.build(Settings(worker_addresses=",".join(each.address for each in workers)))
    async with built.running():
        yield built


async def test_an_adapter_shares_its_models_tokenizer_in_memory(fake_model_dir: Path) -> None:
    async with (
        scripted_worker(fake_model_dir, "m", ["poet"]) as one,
        scripted_worker(fake_model_dir, "m", ["poet", "clerk"]) as two,
        routed(one, two) as front,
    ):
        one.say("ready")
        two.say("ready")
        await until(lambda: [each.ready for each in front.router.connections] == [True, True])
        served = [model for each in front.router.connections for model in each.models.values()]
        assert len(served) == 5
        assert len({id(model.tokenizer) for model in served}) == 1
        assert len({id(model.template) for model in served}) == 1
        poet = front.router.model("poet")
        assert (poet.info.parent, poet.info.adapter, poet.info.fingerprint) == ("m", "poet", "poet")
        base = front.router.model("m")
        assert (base.info.parent, base.info.adapter) == ("", "")
        assert all(model.info.structured_output for model in served)


async def test_a_name_means_the_same_whatever_its_workers_do(
    fake_model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sluice_gateway.routing")
    async with (
        scripted_worker(fake_model_dir, "b", ["x"]) as second,
        scripted_worker(fake_model_dir, "a", ["x"]) as first,
        routed(second, first) as front,
    ):
        router = front.router
        second.say("ready")
        await until(lambda: router.ready_models())
        assert router.model("x").info.parent == "b"
        first.say("loading")
        await until(lambda: router.parent_of("x") == "a")
        with pytest.raises(ModelLoading):
            router.model("x")
        first.say("ready")
        await until(lambda: router.ready_model("x"))
        x = router.model("x")
        assert x.info.parent == "a"
        assert {router.pick(x).address for _ in range(4)} == {first.address}  # type: ignore[union-attr]
        first.say("draining")
        await until(lambda: not router.ready_model("x"))
        assert router.pick(x) is None
    warnings = [record.getMessage() for record in caplog.records]
    assert len([each for each in warnings if each.startswith("x is the name of")]) == 1
    assert "an adapter of a and of an adapter of b" in warnings[0]


async def test_the_only_model_is_found_whatever_adapters_there_are(fake_model_dir: Path) -> None:
    async with (
        scripted_worker(fake_model_dir, "m", ["poet"]) as one,
        scripted_worker(fake_model_dir, "other") as two,
        routed(one, two) as front,
    ):
        router = front.router
        one.say("loading")
        await until(lambda: router.model_names())
        assert router.loading(None).state == "loading"
        with pytest.raises(ModelLoading) as loading:
            router.model(None)
        assert "`m`" in loading.value.message
        one.say("ready")
        await until(lambda: router.ready_models())
        assert router.model(None).name == "m"
        two.say("resolving")
        await until(lambda: "other" in router.model_names())
        with pytest.raises(InvalidRequest, match="m, other, poet"):
            router.model(None)
        assert router.model("poet").info.parent == "m"


async def test_an_adapter_is_as_far_as_the_workers_that_have_it(fake_model_dir: Path) -> None:
    async with (
        scripted_worker(fake_model_dir) as old,
        scripted_worker(fake_model_dir, adapters=["poet"]) as new,
        routed(old, new) as front,
    ):
        old.say("ready")
        new.say("downloading", bytes_done=1, bytes_total=4)
        await until(lambda: len(front.router.model_names()) == 2)
        await until(lambda: front.router.ready_models())
        assert front.router.loading("poet").bytes_total == 4
        assert front.router.loading("m").state == "ready"
        waits = asyncio.create_task(wait_for_model(front, "poet", 20))
        await asyncio.sleep(0.1)
        assert not waits.done()
        new.say("ready")
        model = await waits
        assert model.name == "poet"
        picked = front.router.pick(model)
        assert picked is not None
        assert picked.address == new.address
        assert front.router.capacity(model) == 4
        assert front.router.capacity(front.router.model("m")) == 8


async def test_an_adapter_that_was_promised_and_did_not_come_is_not_found(
    fake_model_dir: Path,
) -> None:
    async with scripted_worker(fake_model_dir) as one, routed(one) as front:
        one.say("loading", adapter_names=["poet"])
        await until(lambda: front.router.model_names() == ["m", "poet"])
        one.say("ready", adapter_names=["poet"])
        await until(lambda: front.router.ready_models())
        with pytest.raises(ModelNotFound):
            front.router.model("poet")


async def test_an_adapter_cannot_take_the_name_of_its_own_model(fake_model_dir: Path) -> None:
    async with scripted_worker(fake_model_dir, "m", ["m"]) as one, routed(one) as front:
        one.say("ready")
        await until(lambda: front.router.ready_models())
        assert front.router.model_names() == ["m"]
        assert front.router.model("m").info.adapter == ""
