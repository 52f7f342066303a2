from __future__ import annotations

from dataclasses import replace

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.abilities import LATER_FIELDS, for_request
from sluice_gateway.errors import InvalidRequest

from tests.gateway.text.samples import model

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
