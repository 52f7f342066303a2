"""No field of the contract is forgotten on its way to vLLM."""

from __future__ import annotations

from dataclasses import fields

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.engines.base import RequestError, RowKey, RowSpec, SamplingParams
from sluice_worker.engines.vllm.sampling import (
    FIELDS,
    GRAMMAR_BACKEND,
    structured_outputs,
    vllm_sampling_params,
)
from vllm import SamplingParams as VllmSamplingParams

#: Decides about the seed that is sent, and is no field of vLLM's.
SEEDED = {"seeded"}


def test_every_field_of_the_contract_is_mapped() -> None:
    ours = {field.name for field in fields(SamplingParams)} - SEEDED
    assert FIELDS.keys() == ours
    assert FIELDS.keys() == set(pb.SamplingParams.DESCRIPTOR.fields_by_name) - SEEDED
    for field in FIELDS.values():
        assert field.name in VllmSamplingParams.__struct_fields__


def test_every_value_arrives() -> None:
    ours = SamplingParams(
        max_tokens=20,
        min_tokens=5,
        temperature=0.7,
        top_p=0.8,
        top_k=40,
        min_p=0.1,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        repetition_penalty=1.2,
        logit_bias={7: -3.0},
        stop_token_ids=(9, 11),
        ignore_eos=True,
        logprobs=4,
        allowed_token_ids=(1, 2, 3),
        seeded=True,
        bad_words=((5,), (6, 7)),
        prompt_logprobs=2,
    )
    theirs = vllm_sampling_params(ours, RowSpec(RowKey(1, 1), (1 << 64) - 1, (4, 4, 4)))
    assert (theirs.max_tokens, theirs.min_tokens) == (17, 2)
    assert (theirs.temperature, theirs.top_p, theirs.top_k, theirs.min_p) == (0.7, 0.8, 40, 0.1)
    assert theirs.repetition_penalty == 1.2
    assert theirs.logit_bias == {7: -3.0}
    assert theirs.stop_token_ids == [9, 11]
    assert theirs.ignore_eos
    assert theirs.logprobs == 4
    assert theirs.allowed_token_ids == [1, 2, 3]
    assert theirs.bad_words_token_ids == [[5], [6, 7]]
    assert theirs.prompt_logprobs == 2
    another = vllm_sampling_params(ours, RowSpec(RowKey(1, 2), 1), tells_prompt=False)
    assert another.prompt_logprobs is None
    assert theirs.seed == (1 << 63) - 1
    assert not theirs.detokenize


def test_a_row_in_the_middle_of_a_bad_word_cannot_go_on() -> None:
    ours = SamplingParams(max_tokens=9, bad_words=((5, 6, 7),))
    vllm_sampling_params(ours, RowSpec(RowKey(1, 1), 1, (5, 6, 7)))
    with pytest.raises(RequestError) as caught:
        vllm_sampling_params(ours, RowSpec(RowKey(1, 1), 1, (5, 6)))
    assert caught.value.field == "rows.generated_ids"


def test_what_is_not_asked_for_is_not_sent() -> None:
    theirs = vllm_sampling_params(SamplingParams(max_tokens=1), RowSpec(RowKey(1, 1), 5))
    assert theirs.seed is None
    assert theirs.logit_bias is None
    assert theirs.allowed_token_ids is None
    assert theirs.structured_outputs is None
    assert theirs.logprobs is None


def test_a_grammar_goes_to_the_backend_that_is_configured() -> None:
    output = structured_outputs('start: "a"')
    assert output.grammar == 'start: "a"'
    assert output._backend == GRAMMAR_BACKEND
