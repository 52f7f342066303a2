from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice.worker.v1 import worker_pb2_grpc
from sluice_gateway.abilities import LATER_FIELDS, for_request
from sluice_gateway.errors import InvalidRequest

from tests.gateway.text.samples import model
from tests.processes import gateway, worker
from tests.scripted_worker import ScriptedWorker, scripted_worker, until_told
from tests.sse import chat

ASKED = {
    "priority": pb.SamplingParams(),
    "bad_words": pb.SamplingParams(bad_words=[pb.TokenSequence(ids=[1])]),
    "thinking_budget": pb.SamplingParams(thinking_budget=pb.ThinkingBudget(tokens=0)),
    "prompt_logprobs": pb.SamplingParams(prompt_logprobs=0),
}


@pytest.mark.parametrize("field", LATER_FIELDS)
def test_a_field_that_a_worker_would_ignore_is_refused_by_name(field: str) -> None:
    served = model()
    with pytest.raises(InvalidRequest) as caught:
        for_request(served, ASKED[field], priority=int(field == "priority"))
    assert (caught.value.param, caught.value.code) == (
        LATER_FIELDS[field][0],
        "unsupported_parameter",
    )


@pytest.mark.parametrize("field", LATER_FIELDS)
def test_a_request_goes_only_to_workers_that_honour_what_it_needs(field: str) -> None:
    old = model()
    able = replace(old, info=replace(old.info, request_fields=frozenset({field, "other"})))
    needing = for_request(able, ASKED[field], priority=-int(field == "priority"))
    assert able.takes_prompts_of(needing)
    assert able.serves_same_as(needing)
    assert not old.takes_prompts_of(needing)
    assert not old.serves_same_as(needing)


def test_a_request_that_needs_nothing_goes_to_all_workers() -> None:
    old = model()
    able = replace(old, info=replace(old.info, request_fields=frozenset(LATER_FIELDS)))
    assert old.takes_prompts_of(for_request(able, pb.SamplingParams(top_k=5)))


@pytest.mark.parametrize("field", LATER_FIELDS)
def test_beside_a_worker_that_honours_a_field_an_older_one_does_not_refuse_it(field: str) -> None:
    old = model()
    able = replace(old, info=replace(old.info, request_fields=frozenset({field})))
    needing = for_request(old.beside([old, able]), ASKED[field], priority=int(field == "priority"))
    assert able.takes_prompts_of(needing)
    assert not old.takes_prompts_of(needing)


def test_a_structured_output_goes_only_to_workers_that_keep_to_one() -> None:
    old = model()
    able = replace(old, info=replace(old.info, structured_output=True))
    both = old.beside([old, able])
    assert both.info.structured_output
    needing = for_request(both, pb.SamplingParams(structured_output=pb.StructuredOutput(regex="a")))
    assert able.takes_prompts_of(needing)
    assert not old.takes_prompts_of(needing)


def test_what_cannot_take_a_models_prompts_adds_nothing_to_it() -> None:
    old = model()
    info = replace(old.info, request_fields=frozenset(LATER_FIELDS), structured_output=True)
    shorter = replace(old, info=replace(info, max_model_len=info.max_model_len - 1))
    assert old.beside([old, shorter]) is old


class OldWorker(ScriptedWorker):
    """Of a first release: it describes the model as another worker does, without later fields."""

    description = pb.GetModelResponse()

    async def GetModel(self, request, context):  # type: ignore[no-untyped-def,override]  # noqa: N802
        return self.description


async def old_description(address: str) -> pb.GetModelResponse:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        described = await stub.GetModel(pb.GetModelRequest())
    described.ClearField("request_fields")
    described.max_model_len -= 1  # so it is the one that says what the model is
    return described


async def test_while_workers_are_replaced_the_newer_one_serves_what_it_alone_honours(
    fake_model_dir: Path,
) -> None:
    asked = chat(bad_words=["dog"], priority=3, max_tokens=3)
    with worker(fake_model_dir, ENGINE="fake") as able:
        async with scripted_worker(fake_model_dir, "fake-model", made=OldWorker) as old:
            with gateway(able.address, old.address) as front:
                OldWorker.description = await old_description(able.address)
                old.say("ready")
                await until_told(
                    front.url + "/health", lambda body: body["models"][0]["workers_ready"] == 2
                )
                async with httpx.AsyncClient(base_url=front.url) as client:
                    answers = [
                        await client.post("/v1/chat/completions", json=asked) for _ in range(3)
                    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200], answers[0].text
