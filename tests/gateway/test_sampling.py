from __future__ import annotations

from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.model import GenerationDefaults
from sluice_gateway.sampling import row_seeds, sampling_params
from sluice_gateway.schema.chat import ChatRequest
from sluice_gateway.schema.completions import CompletionRequest
from sluice_gateway.schema.parsing import parse


def request(fields: str = "") -> ChatRequest:
    body = '{"messages":[{"role":"user","content":"x"}]%s}' % (fields and "," + fields)
    return parse(body.encode(), ChatRequest)


def test_nothing_said_is_openais_default() -> None:
    params = sampling_params(request(), GenerationDefaults(), 7)
    expected = pb.SamplingParams(max_tokens=7, temperature=1, top_p=1, repetition_penalty=1)
    assert params == expected


def test_the_models_defaults_come_before_openais_and_after_the_clients() -> None:
    defaults = GenerationDefaults(temperature=0.5, top_p=0.25, top_k=20, repetition_penalty=1.5)
    params = sampling_params(request('"temperature":0,"top_k":-1'), defaults, 7)
    assert params.temperature == 0
    assert params.top_p == 0.25
    assert params.top_k == 0
    assert params.repetition_penalty == 1.5


def test_every_field_of_the_contract_can_be_set_by_a_client() -> None:
    everything = (
        '"min_tokens":1,"temperature":0.5,"top_p":0.5,"top_k":5,"min_p":0.5,"presence_penalty":1,'
        '"frequency_penalty":1,"repetition_penalty":2,"logit_bias":{"5":1},"stop_token_ids":[3],'
        '"ignore_eos":true,"logprobs":true,"top_logprobs":2,"allowed_token_ids":[1],"seed":5'
    )
    form = pb.StructuredOutput(regex="a")
    params = sampling_params(
        request(everything),
        GenerationDefaults(),
        7,
        form,
        bad_words=[[1, 2]],
        thinking=pb.ThinkingBudget(),
    )
    unset = {field.name for field in params.DESCRIPTOR.fields} - {
        field.name for field, _ in params.ListFields()
    }
    assert unset == {"prompt_logprobs"}  # of completions: the next test


def test_log_probabilities_of_the_prompt_are_asked_for_in_completions() -> None:
    asked = parse(b'{"prompt":"x","echo":true,"logprobs":2}', CompletionRequest)
    params = sampling_params(asked, GenerationDefaults(), 7)
    assert (params.logprobs, params.prompt_logprobs) == (2, 2)
    silent = parse(b'{"prompt":"x","echo":true}', CompletionRequest)
    assert not sampling_params(silent, GenerationDefaults(), 7).HasField("prompt_logprobs")


def test_seeds_count_up_from_the_clients_and_are_random_without() -> None:
    assert row_seeds(7, 3) == [7, 8, 9]
    assert row_seeds(-1, 2) == [2**64 - 1, 0]
    first, second = row_seeds(None, 1), row_seeds(None, 1)
    assert first != second
    assert 0 <= first[0] < 2**64
