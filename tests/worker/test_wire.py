from __future__ import annotations

from dataclasses import replace

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker import frames, wire
from sluice_worker.engines.base import (
    AdapterInfo,
    Constraint,
    ErrorCode,
    FinishReason,
    ModelInfo,
    PromptLogprobs,
    RequestError,
    RowFinish,
    RowKey,
    RowOutput,
    RowStart,
    SamplingParams,
    StructuredOutput,
    ThinkingBudget,
    TokenLogprobs,
)

MODEL = ModelInfo(
    "f",
    max_model_len=64,
    vocab_size=100,
    eos_token_ids=(2,),
    batch_max=4,
    structured_output=True,
    adapters=(AdapterInfo("poet", "f-poet"),),
    request_fields=wire.LATER_FIELDS,
)


def sampling(**changes: object) -> pb.SamplingParams:
    values: dict[str, object] = {"max_tokens": 8, "top_p": 1.0, "repetition_penalty": 1.0}
    return pb.SamplingParams(**{**values, **changes})  # type: ignore[arg-type]


def choices(*given: str) -> pb.StructuredOutput:
    return pb.StructuredOutput(choices=pb.Choices(choices=given))


def words(*given: int) -> list[pb.TokenSequence]:
    """One word for each, of so many tokens."""
    return [pb.TokenSequence(ids=[1] * count) for count in given]


def submit(**changes: object) -> pb.Submit:
    values: dict[str, object] = {
        "prompt_ids": [1, 2, 3],
        "sampling": sampling(),
        "rows": [pb.Row(row_id=1, seed=5)],
    }
    return pb.Submit(**{**values, **changes})  # type: ignore[arg-type]


def test_every_sampling_field_of_the_contract_reaches_the_engine() -> None:
    given = sampling(
        min_tokens=1,
        temperature=0.5,
        top_k=7,
        min_p=0.25,
        presence_penalty=1.5,
        frequency_penalty=-1.5,
        logit_bias={3: 2.5},
        stop_token_ids=[9],
        ignore_eos=True,
        logprobs=0,
        allowed_token_ids=[1, 2],
        structured_output=pb.StructuredOutput(regex="a+"),
        seeded=True,
        bad_words=[pb.TokenSequence(ids=[1, 2]), pb.TokenSequence(ids=[3])],
        prompt_logprobs=3,
        thinking_budget=pb.ThinkingBudget(tokens=0, begin_id=7, end_id=8, begun=True),
    )
    taken = wire.sampling_params(given, MODEL)
    names = {field.name for field in given.DESCRIPTOR.fields}
    assert names == set(SamplingParams.__dataclass_fields__)
    for name in names:
        expected = getattr(given, name)
        actual = getattr(taken, name)
        if name == "logit_bias":
            assert dict(actual) == dict(expected)
        elif name == "thinking_budget":
            assert actual == ThinkingBudget(0, 7, 8, begun=True)
        elif name == "bad_words":
            assert actual == ((1, 2), (3,))
        elif isinstance(actual, tuple):
            assert actual == tuple(expected)
        elif name == "structured_output":
            assert actual == StructuredOutput(Constraint.REGEX, "a+")
        else:
            assert actual == expected, name


def test_absent_logprobs_are_none_and_zero_is_zero() -> None:
    assert wire.sampling_params(sampling(), MODEL).logprobs is None
    assert wire.sampling_params(sampling(logprobs=0), MODEL).logprobs == 0
    assert wire.sampling_params(sampling(), MODEL).prompt_logprobs is None
    assert wire.sampling_params(sampling(prompt_logprobs=0), MODEL).prompt_logprobs == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 9}, "min_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logit_bias": {100: 1.0}}, "logit_bias"),
        ({"logit_bias": {1: float("inf")}}, "logit_bias"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias"),
        ({"logit_bias": {1: 3e38}}, "logit_bias"),
        ({"logit_bias": {1: 1.0, 2: -100.5}}, "logit_bias"),
        ({"logit_bias": dict.fromkeys(range(1025), 1.0)}, "logit_bias"),
        ({"stop_token_ids": [100]}, "stop_token_ids"),
        ({"allowed_token_ids": [1] * 1025}, "allowed_token_ids"),
        ({"allowed_token_ids": [100]}, "allowed_token_ids"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"thinking_budget": pb.ThinkingBudget(begin_id=100, end_id=1)}, "thinking_budget"),
        ({"thinking_budget": pb.ThinkingBudget(begin_id=1, end_id=100)}, "thinking_budget"),
        ({"thinking_budget": pb.ThinkingBudget(begin_id=1, end_id=1)}, "thinking_budget"),
        ({"bad_words": words(1, 0)}, "bad_words"),
        ({"bad_words": words(*[1] * 129)}, "bad_words"),
        ({"bad_words": words(1000, 25)}, "bad_words"),
        ({"bad_words": [pb.TokenSequence(ids=[1, 100])]}, "bad_words"),
        ({"structured_output": pb.StructuredOutput()}, "structured_output"),
        ({"structured_output": pb.StructuredOutput(regex="")}, "structured_output"),
        ({"structured_output": pb.StructuredOutput(grammar="é" * 32_769)}, "structured_output"),
        ({"structured_output": choices()}, "structured_output"),
        ({"structured_output": choices(*["x"] * 1025)}, "structured_output"),
        ({"structured_output": choices("x" * 65_536)}, "structured_output"),
    ],
)
def test_a_sampling_value_out_of_range_is_refused_by_name(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(RequestError) as caught:
        wire.sampling_params(sampling(**changes), MODEL)
    assert caught.value.code is ErrorCode.INVALID_ARGUMENT
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt_ids": []}, "prompt_ids"),
        ({"prompt_ids": [100]}, "prompt_ids"),
        ({"adapter": "clerk"}, "adapter"),
        ({"rows": []}, "rows"),
        ({"rows": [pb.Row(row_id=i) for i in range(129)]}, "rows"),
        ({"rows": [pb.Row(row_id=1, generated_ids=[100])]}, "rows.generated_ids"),
        ({"rows": [pb.Row(row_id=1, generated_ids=[1] * 8)]}, "rows.generated_ids"),
    ],
)
def test_a_submit_that_makes_no_sense_is_refused_by_name(
    changes: dict[str, object], field: str
) -> None:
    with pytest.raises(RequestError) as caught:
        wire.generation_request(1, submit(**changes), MODEL)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (
            pb.StructuredOutput(json_schema='{"type": "object"}'),
            StructuredOutput(Constraint.JSON_SCHEMA, '{"type": "object"}'),
        ),
        (
            pb.StructuredOutput(grammar='start: "x"'),
            StructuredOutput(Constraint.GRAMMAR, 'start: "x"'),
        ),
        (
            choices("yes", 'n"o', "größer"),
            StructuredOutput(Constraint.CHOICES, '["yes", "n\\"o", "größer"]'),
        ),
    ],
)
def test_each_kind_of_structured_output_has_its_source(
    given: pb.StructuredOutput, taken: StructuredOutput
) -> None:
    assert wire.sampling_params(sampling(structured_output=given), MODEL).structured_output == taken


def test_every_constraint_of_the_contract_is_known() -> None:
    fields = pb.StructuredOutput.DESCRIPTOR.oneofs_by_name["constraint"].fields
    assert {field.name for field in fields} == {constraint.value for constraint in Constraint}


def test_an_engine_without_structured_output_refuses_it() -> None:
    asked = sampling(structured_output=pb.StructuredOutput(regex="a"))
    with pytest.raises(RequestError) as caught:
        wire.sampling_params(asked, replace(MODEL, structured_output=False))
    assert (caught.value.code, caught.value.field) == (
        ErrorCode.INVALID_ARGUMENT,
        "structured_output",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"bad_words": words(1)},
        {"prompt_logprobs": 0},
        {"thinking_budget": pb.ThinkingBudget(begin_id=1, end_id=2)},
    ],
)
def test_a_later_field_that_the_engine_does_not_honour_is_refused_by_name(
    changes: dict[str, object],
) -> None:
    with pytest.raises(RequestError) as caught:
        wire.sampling_params(sampling(**changes), replace(MODEL, request_fields=frozenset()))
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_ARGUMENT, *changes)


def test_a_priority_reaches_an_engine_that_honours_it() -> None:
    assert wire.generation_request(1, submit(priority=-5), MODEL).priority == -5
    none = replace(MODEL, request_fields=frozenset())
    assert wire.generation_request(1, submit(priority=0), none).priority == 0
    with pytest.raises(RequestError) as caught:
        wire.generation_request(1, submit(priority=1), none)
    assert (caught.value.code, caught.value.field) == (ErrorCode.INVALID_ARGUMENT, "priority")


def test_an_adapter_of_the_model_reaches_the_engine() -> None:
    assert wire.generation_request(1, submit(adapter="poet"), MODEL).adapter == "poet"
    assert wire.generation_request(1, submit(), MODEL).adapter == ""


def test_prompt_and_output_must_fit_the_context() -> None:
    wire.generation_request(1, submit(prompt_ids=[1] * 56), MODEL)
    with pytest.raises(RequestError) as caught:
        wire.generation_request(1, submit(prompt_ids=[1] * 57), MODEL)
    assert caught.value.code is ErrorCode.CONTEXT_LENGTH_EXCEEDED


def test_a_step_of_single_tokens_has_no_counts() -> None:
    rows = [RowOutput(RowKey(1, 7), [11]), RowOutput(RowKey(1, 8), [12])]
    step = frames.step_message(rows, batch_size=5).step
    assert (list(step.row_ids), list(step.token_ids)) == ([7, 8], [11, 12])
    assert not step.token_counts
    assert step.batch_size == 5


def test_a_step_carries_starts_logprobs_and_finishes() -> None:
    error = RequestError(ErrorCode.INTERNAL, "bad row", "x")
    rows = [
        RowOutput(
            RowKey(1, 7),
            [11, 12],
            start=RowStart(0.5, 0.25, cached_tokens=3),
            logprobs=[
                TokenLogprobs(-0.5, ((11, -0.5), (4, -1.5))),
                TokenLogprobs(-0.75, ((12, -0.75), (5, -2.5))),
            ],
            finish=RowFinish(FinishReason.STOP, stop_token_id=12),
        ),
        RowOutput(RowKey(1, 8), [], finish=RowFinish(FinishReason.ERROR, error=error)),
    ]
    step = frames.step_message(rows, batch_size=2).step
    assert list(step.token_counts) == [2, 0]
    assert (step.starts[0].queue_us, step.starts[0].prefill_us) == (500_000, 250_000)
    assert step.starts[0].cached_tokens == 3
    assert list(step.logprobs[0].top_ids) == [11, 4, 12, 5]
    assert step.logprobs[0].top_count == 2
    assert step.finishes[0].stop_token_id == 12
    assert step.finishes[1].reason == pb.FINISH_REASON_ERROR
    assert step.finishes[1].error.code == pb.ERROR_CODE_INTERNAL


def test_what_is_told_of_a_prompt_comes_first_and_in_bounded_pieces() -> None:
    entries = [TokenLogprobs(-float(place), ((place, -0.5),)) for place in range(600)]
    rows = [
        RowOutput(RowKey(1, 7), [], prompt_logprobs=PromptLogprobs(1, entries)),
        RowOutput(RowKey(1, 8), [11]),
    ]
    *pieces, last = [frame.step for frame in frames.step_messages(rows, 2)]
    told = [piece.prompt_logprobs[0] for piece in pieces]
    assert [(one.row_id, one.position, len(one.logprobs)) for one in told] == [
        (7, 1, 256),
        (7, 257, 256),
        (7, 513, 88),
    ]
    assert list(told[1].top_ids[:2]) == [256, 257]
    assert told[1].top_count == 1
    assert list(last.row_ids) == [8]
    assert not last.token_counts


def test_a_step_that_tells_of_prompts_alone_has_no_frame_of_tokens() -> None:
    told = PromptLogprobs(1, [TokenLogprobs(-1.0)])
    rows = [RowOutput(RowKey(1, 7), [], prompt_logprobs=told)]
    (frame,) = frames.step_messages(rows, 1)
    assert frame.step.prompt_logprobs
    assert not frame.step.row_ids
    assert list(frames.step_messages([RowOutput(RowKey(1, 8), [1])], 1)) == [
        frames.step_message([RowOutput(RowKey(1, 8), [1])], 1)
    ]


def test_every_code_and_reason_has_its_place_in_the_contract() -> None:
    for code in ErrorCode:
        message = frames.error_message(RequestError(code, "m"))
        assert pb.ErrorCode.Name(message.code) == f"ERROR_CODE_{code.name}"
    for reason in FinishReason:
        row = RowOutput(RowKey(1, 1), [], finish=RowFinish(reason))
        finish = frames.step_message([row], 1).step.finishes[0]
        assert pb.FinishReason.Name(finish.reason) == f"FINISH_REASON_{reason.name}"
