"""What each field of a request may be, and how each mistake is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    parse,
)

USER = {"role": "user", "content": "hi"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "demo", "messages": [USER], **fields}
    return parse(json.dumps(body).encode(), ChatRequest)


def completion(**fields: Any) -> CompletionRequest:
    body = {"model": "demo", "prompt": "x", **fields}
    return parse(json.dumps(body).encode(), CompletionRequest)


def refusal(make: Any, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        make(**fields)
    error = caught.value
    assert error.status == 400
    assert error.message[-1] == "."
    return error


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [{**USER, **fields}]}


TYPE, VALUE = "invalid_type", "invalid_value"
MISSING, UNKNOWN, UNSUPPORTED = (
    "missing_required_parameter",
    "unknown_parameter",
    "unsupported_parameter",
)

# Wrong in both kinds of requests.
SHARED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": ""}, "model", VALUE),
    ({"model": 1}, "model", TYPE),
    ({"nonsense": 1}, "nonsense", UNKNOWN),
    ({"n": 0}, "n", VALUE),
    ({"n": 129}, "n", VALUE),
    ({"n": 1.5}, "n", TYPE),
    ({"n": "1"}, "n", TYPE),
    ({"n": True}, "n", TYPE),
    ({"max_tokens": 0}, "max_tokens", VALUE),
    ({"max_tokens": 10**30}, "max_tokens", VALUE),
    ({"min_tokens": -1}, "min_tokens", VALUE),
    ({"max_tokens": 4, "min_tokens": 5}, "min_tokens", VALUE),
    ({"temperature": -0.1}, "temperature", VALUE),
    ({"temperature": 2.1}, "temperature", VALUE),
    ({"temperature": "hot"}, "temperature", TYPE),
    ({"temperature": 10**400}, "temperature", VALUE),
    ({"top_p": 1.1}, "top_p", VALUE),
    ({"top_k": -2}, "top_k", VALUE),
    ({"min_p": 1.1}, "min_p", VALUE),
    ({"presence_penalty": -2.1}, "presence_penalty", VALUE),
    ({"frequency_penalty": 2.1}, "frequency_penalty", VALUE),
    ({"repetition_penalty": 0}, "repetition_penalty", VALUE),
    ({"logit_bias": []}, "logit_bias", TYPE),
    ({"logit_bias": {"a": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"-1": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"01": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"٣": 1}}, "logit_bias", VALUE),
    ({"logit_bias": {"5": 101}}, "logit_bias[5]", VALUE),
    ({"logit_bias": {"5": "x"}}, "logit_bias[5]", TYPE),
    ({"logit_bias": {str(i): 0 for i in range(1025)}}, "logit_bias", VALUE),
    ({"allowed_token_ids": []}, "allowed_token_ids", VALUE),
    ({"allowed_token_ids": list(range(1025))}, "allowed_token_ids", VALUE),
    ({"seed": 2**63}, "seed", VALUE),
    ({"seed": 1.5}, "seed", TYPE),
    ({"stop": 5}, "stop", TYPE),
    ({"stop": ""}, "stop[0]", VALUE),
    ({"stop": ["a", ""]}, "stop[1]", VALUE),
    ({"stop": ["a"] * 17}, "stop", VALUE),
    ({"stop": "x" * 1025}, "stop[0]", VALUE),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", VALUE),
    ({"stop_token_ids": list(range(129))}, "stop_token_ids", VALUE),
    ({"ignore_eos": 1}, "ignore_eos", TYPE),
    ({"stream": "yes"}, "stream", TYPE),
    ({"stream_options": {"include_usage": True}}, "stream_options", VALUE),
    ({"stream": True, "stream_options": []}, "stream_options", TYPE),
    ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", UNKNOWN),
    (
        {"stream": True, "stream_options": {"include_obfuscation": "yes"}},
        "stream_options.include_obfuscation",
        TYPE,
    ),
    ({"user": 5}, "user", TYPE),
    ({"user": "x" * 1025}, "user", VALUE),
    ({"metadata": {"a": 1}}, "metadata.a", TYPE),
    ({"metadata": {"a" * 65: "b"}}, f"metadata.{'a' * 65}", VALUE),
    ({"metadata": {str(i): "" for i in range(17)}}, "metadata", VALUE),
    ({"service_tier": "gold"}, "service_tier", VALUE),
    ({"service_tier": 1}, "service_tier", VALUE),
    ({"priority": 1.5}, "priority", TYPE),
    ({"priority": 2**31}, "priority", VALUE),
    ({"priority": -(2**31) - 1}, "priority", VALUE),
    ({"bad_words": "x"}, "bad_words", TYPE),
    ({"bad_words": ["x", ""]}, "bad_words[1]", VALUE),
    ({"bad_words": ["x", 5]}, "bad_words[1]", TYPE),
    ({"bad_words": ["x"] * 65}, "bad_words", VALUE),
    ({"bad_words": ["x" * 257]}, "bad_words[0]", VALUE),
    ({"structured_outputs": {"regexp": "a"}}, "structured_outputs.regexp", UNKNOWN),
    ({"guided_json": {}}, "guided_json", UNSUPPORTED),
    ({"response_format": {"type": "xml"}}, "response_format", VALUE),
    ({"use_beam_search": True}, "use_beam_search", UNSUPPORTED),
    ({"prompt_logprobs": 0}, "prompt_logprobs", UNSUPPORTED),
]

CHAT: list[tuple[dict[str, Any], str, str]] = [
    ({"thinking_token_budget": -2}, "thinking_token_budget", VALUE),
    ({"thinking_token_budget": 1.5}, "thinking_token_budget", TYPE),
    ({"messages": None}, "messages", MISSING),
    ({"messages": []}, "messages", VALUE),
    ({"messages": "hi"}, "messages", TYPE),
    ({"messages": [5]}, "messages[0]", TYPE),
    ({"messages": [{"content": "x"}]}, "messages[0].role", MISSING),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content", MISSING),
    (message(role="function"), "messages[0].role", VALUE),
    (message(content=5), "messages[0].content", TYPE),
    (message(content=[]), "messages[0].content", VALUE),
    (message(content=["x"]), "messages[0].content[0]", TYPE),
    (message(content=[IMAGE]), "messages[0].content[0].type", UNSUPPORTED),
    (message(content=[{"type": "text"}]), "messages[0].content[0].text", MISSING),
    (message(content=[{"text": "x"}]), "messages[0].content[0].type", MISSING),
    (message(content=[{"type": "text", "text": 5}]), "messages[0].content[0].text", TYPE),
    (
        message(content=[{"type": "text", "text": "x", "cache": 1}]),
        "messages[0].content[0].cache",
        UNKNOWN,
    ),
    (message(nonsense=1), "messages[0].nonsense", UNKNOWN),
    (message(name=""), "messages[0].name", VALUE),
    (message(tool_call_id="x"), "messages[0].tool_call_id", VALUE),
    (message(role="tool"), "messages[0].tool_call_id", MISSING),
    (message(function_call={}), "messages[0].function_call", UNSUPPORTED),
    (message(role="assistant", content=None), "messages[0].content", MISSING),
    (message(role="assistant", tool_calls=[{}]), "messages[0].tool_calls[0].id", MISSING),
    (
        message(role="assistant", tool_calls=[{"id": "1", "function": {"arguments": ""}}]),
        "messages[0].tool_calls[0].function.name",
        MISSING,
    ),
    (
        message(role="assistant", tool_calls=[{"id": "1", "type": "custom", "function": {}}]),
        "messages[0].tool_calls[0].type",
        VALUE,
    ),
    ({"max_completion_tokens": 0}, "max_completion_tokens", VALUE),
    ({"logprobs": 1}, "logprobs", TYPE),
    ({"top_logprobs": 1}, "top_logprobs", VALUE),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", VALUE),
    ({"tools": [{"type": "function"}]}, "tools[0].function", MISSING),
    ({"tool_choice": "required"}, "tool_choice", VALUE),
    ({"parallel_tool_calls": True}, "parallel_tool_calls", VALUE),
    ({"functions": [{}]}, "functions", UNSUPPORTED),
    ({"reasoning_effort": "lots"}, "reasoning_effort", VALUE),
    ({"store": True}, "store", UNSUPPORTED),
    ({"store": 0}, "store", UNSUPPORTED),
    ({"modalities": ["text", "audio"]}, "modalities", UNSUPPORTED),
    ({"prediction": {}}, "prediction", UNSUPPORTED),
    ({"web_search_options": {}}, "web_search_options", UNSUPPORTED),
    ({"chat_template": "x"}, "chat_template", UNSUPPORTED),
    ({"documents": [{}]}, "documents", UNSUPPORTED),
    ({"suffix": "x"}, "suffix", UNKNOWN),
    ({"prompt": "x"}, "prompt", UNKNOWN),
    (
        {"continue_final_message": True, "add_generation_prompt": True},
        "continue_final_message",
        VALUE,
    ),
    ({"continue_final_message": True}, "continue_final_message", VALUE),
    ({"chat_template_kwargs": []}, "chat_template_kwargs", TYPE),
    ({"chat_template_kwargs": {"a": {}}}, "chat_template_kwargs.a", TYPE),
    ({"chat_template_kwargs": {"a b": 1}}, "chat_template_kwargs", VALUE),
    ({"chat_template_kwargs": {"a": "x" * 1025}}, "chat_template_kwargs.a", VALUE),
    ({"chat_template_kwargs": {"a": 10**40}}, "chat_template_kwargs.a", VALUE),
    ({"chat_template_kwargs": {f"a{i}": 1 for i in range(17)}}, "chat_template_kwargs", VALUE),
]

COMPLETION: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": None}, "prompt", MISSING),
    ({"prompt": 5}, "prompt", TYPE),
    ({"prompt": []}, "prompt", VALUE),
    ({"prompt": [[]]}, "prompt[0]", VALUE),
    ({"prompt": ["a", 5]}, "prompt[1]", TYPE),
    ({"prompt": [5, "a"]}, "prompt[1]", TYPE),
    ({"prompt": [5, True]}, "prompt[1]", TYPE),
    ({"prompt": [[5], "a"]}, "prompt[1]", TYPE),
    ({"prompt": [-1]}, "prompt[0]", VALUE),
    ({"prompt": [2**31]}, "prompt[0]", VALUE),
    ({"prompt": ["a"] * 129}, "prompt", VALUE),
    ({"prompt": ["a"] * 65, "n": 2}, "n", VALUE),
    ({"logprobs": True}, "logprobs", TYPE),
    ({"logprobs": 6}, "logprobs", VALUE),
    ({"max_tokens": 0}, "max_tokens", VALUE),
    ({"max_tokens": -1, "echo": True}, "max_tokens", VALUE),
    ({"max_tokens": 0, "echo": True, "min_tokens": 1}, "min_tokens", VALUE),
    ({"suffix": "x"}, "suffix", UNSUPPORTED),
    ({"thinking_token_budget": 5}, "thinking_token_budget", UNSUPPORTED),
    ({"best_of": 2, "stream": True}, "best_of", VALUE),
    ({"best_of": 129}, "best_of", VALUE),
    ({"prompt": ["a"] * 65, "best_of": 2}, "best_of", VALUE),
    ({"n": 2, "best_of": 1}, "best_of", VALUE),
    ({"messages": [USER]}, "messages", UNKNOWN),
]


@pytest.mark.parametrize(("fields", "param", "code"), SHARED + CHAT)
def test_a_mistake_in_a_chat_request_is_told_by_its_field(
    fields: dict[str, Any], param: str, code: str
) -> None:
    error = refusal(chat, **fields)
    assert (error.param, error.code) == (param, code)
    assert param.rpartition(".")[2].partition("[")[0] in error.message or param in error.message


@pytest.mark.parametrize(("fields", "param", "code"), SHARED + COMPLETION)
def test_a_mistake_in_a_completion_request_is_told_by_its_field(
    fields: dict[str, Any], param: str, code: str
) -> None:
    error = refusal(completion, **fields)
    assert (error.param, error.code) == (param, code)


NOTHING: dict[str, Any] = {
    "thinking_token_budget": -1,
    "store": False,
    "modalities": ["text"],
    "stream_options": None,
    "reasoning_effort": None,
    "functions": None,
    "function_call": "none",
    "priority": 0,
    "bad_words": [],
    "chat_template": None,
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_value_that_asks_for_nothing_is_accepted(name: str) -> None:
    assert chat(**{name: NOTHING[name]}) == chat() or name == "priority"


@pytest.mark.parametrize("name", [*ChatRequest.model_fields, *ChatRequest.unsupported])
def test_null_is_absence(name: str) -> None:
    if name == "messages":
        assert refusal(chat, **{name: None}).code == MISSING
    else:
        expected = chat().model_copy(update={"model": None} if name == "model" else {})
        assert chat(**{name: None}) == expected


@pytest.mark.parametrize("name", [*CompletionRequest.model_fields, *CompletionRequest.unsupported])
def test_null_is_absence_in_completions_too(name: str) -> None:
    if name == "prompt":
        assert refusal(completion, **{name: None}).code == MISSING
    else:
        expected = completion().model_copy(update={"model": None} if name == "model" else {})
        assert completion(**{name: None}) == expected


def test_null_is_absence_inside_of_objects() -> None:
    request = chat(
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": None},
        messages=[{**USER, "name": None, "tool_calls": None, "function_call": None}],
    )
    assert request.include_usage
    assert not request.continuous_usage


def test_what_a_client_does_not_say_is_none() -> None:
    request = chat()
    said = (request.temperature, request.top_p, request.top_k, request.seed, request.stop)
    assert said == (None,) * 5
    assert request.repetition_penalty is None
    assert request.token_limit is None


def test_values_come_out_as_they_went_in() -> None:
    request = chat(
        temperature=0,
        top_p=0.5,
        top_k=-1,
        logit_bias={"5": -100, "7": 1.5},
        stop="x",
        seed=-1,
        max_tokens=9,
        max_completion_tokens=7,
        service_tier="default",
        metadata={"a": "b"},
    )
    assert (request.temperature, request.top_p, request.top_k) == (0, 0.5, 0)
    assert request.logit_bias == {5: -100, 7: 1.5}
    assert (request.stop, request.seed, request.token_limit) == (["x"], -1, 7)
    assert request.service_tier == "default"


@pytest.mark.parametrize("tier", ["auto", "default", "flex", "priority", "scale"])
def test_openais_service_tiers_are_accepted(tier: str) -> None:
    assert chat(service_tier=tier).service_tier == tier
    assert completion(service_tier=tier).service_tier == tier


@pytest.mark.parametrize("hint", [True, False, None])
def test_the_hint_to_pad_a_stream_is_accepted(hint: bool | None) -> None:
    options = {"include_usage": True, "include_obfuscation": hint}
    assert chat(stream=True, stream_options=options).include_usage


def test_an_unknown_name_is_told_before_what_it_was_mistyped_for_is_missed() -> None:
    error = refusal(lambda **fields: parse(json.dumps(fields).encode(), ChatRequest), mesages=[])
    assert (error.param, error.code) == ("mesages", UNKNOWN)
    assert error.message == "Unknown parameter: 'mesages'."


def test_a_nucleus_of_nothing_is_the_most_likely_token() -> None:
    top_p = chat(top_p=0).top_p
    assert top_p is not None
    assert 0 < top_p < 0.001


def test_log_probabilities_are_counted_alike_in_both_kinds() -> None:
    assert chat().top_count is None
    assert chat(logprobs=False).top_count is None
    assert chat(logprobs=True).top_count == 0
    assert chat(logprobs=True, top_logprobs=20).top_count == 20
    assert completion().top_count is None
    assert completion(logprobs=0).top_count == 0
    assert completion(logprobs=5).top_count == 5


def test_requests_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        chat().n = 2  # type: ignore[misc]


def test_every_shape_of_prompt_is_a_list_of_prompts() -> None:
    assert completion(prompt="x").prompts == ["x"]
    assert completion(prompt=["x", "y"]).prompts == ["x", "y"]
    assert completion(prompt=[1, 2]).prompts == [[1, 2]]
    assert completion(prompt=[[1], [2, 3]]).prompts == [[1], [2, 3]]


def test_log_probabilities_of_the_prompt_are_asked_for_by_echo() -> None:
    assert completion(echo=True, logprobs=2, max_tokens=0).prompt_top_count == 2
    assert completion(echo=True).prompt_top_count is None
    assert completion(logprobs=2).prompt_top_count is None
    assert chat(logprobs=True).prompt_top_count is None


def test_candidates_are_those_of_best_of_or_n() -> None:
    assert completion(n=2, best_of=2, stream=True).candidates == 2
    assert completion(n=2, best_of=5).candidates == 5
    assert completion(n=3).candidates == 3
    assert chat(n=3).candidates == 3


def test_every_shape_of_message_is_taken() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    refused = [{"type": "refusal", "refusal": "No."}, {"type": "text", "text": "Sorry."}]
    answer: dict[str, Any] = {
        "role": "assistant",
        "content": "x",
        "refusal": None,
        "annotations": [],
    }
    request = chat(
        messages=[
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": "", "name": "ann"},
            {**answer, "audio": None, "function_call": None, "tool_calls": None},
            {"role": "assistant", "tool_calls": [call, {**call, "index": 1}], "parsed": {}},
            {"role": "tool", "tool_call_id": "1", "content": "c"},
            {"role": "assistant", "content": refused},
            {"role": "assistant", "refusal": "No."},
            {"role": "assistant", "content": "d", "reasoning_content": "e"},
        ]
    )
    assert len(request.messages) == 9
    content = request.messages[6].content
    assert isinstance(content, list)
    assert [part.text for part in content] == ["No.", "Sorry."]


def test_a_chat_opens_an_answer_unless_it_goes_on_with_one() -> None:
    assistant = [USER, {"role": "assistant", "content": "x"}]
    assert chat().opens_answer
    assert not chat(add_generation_prompt=False).opens_answer
    assert not chat(messages=assistant, continue_final_message=True).opens_answer


def test_tokenize_takes_a_text_or_a_conversation() -> None:
    def tokenize(**fields: Any) -> TokenizeRequest:
        return parse(json.dumps(fields).encode(), TokenizeRequest)

    assert tokenize(prompt="x").prompt == "x"
    assert tokenize(prompt="").prompt == ""
    assert tokenize(messages=[USER], add_generation_prompt=False).messages[0].content == "hi"
    assert refusal(tokenize).code == MISSING
    assert refusal(tokenize, prompt="x", messages=[USER]).code == VALUE
    assert refusal(tokenize, prompt="x", nonsense=1).code == UNKNOWN
    assert refusal(tokenize, prompt="x", chat_template="y").code == UNSUPPORTED
    assert refusal(tokenize, messages=[{**USER, "role": "x"}]).param == "messages[0].role"
    assert refusal(tokenize, continue_final_message=True).status == 400


def test_detokenize_takes_ids() -> None:
    def detokenize(**fields: Any) -> DetokenizeRequest:
        return parse(json.dumps(fields).encode(), DetokenizeRequest)

    assert detokenize(tokens=[1, 2]).tokens == [1, 2]
    assert refusal(detokenize).param == "tokens"
    assert refusal(detokenize, tokens=[-1]).param == "tokens[0]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("model_class", [ChatRequest, CompletionRequest, TokenizeRequest])
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_value_of_any_field_is_taken_or_refused_with_a_400(
    model_class: type[ChatRequest], data: st.DataObject
) -> None:
    names = [*model_class.model_fields, *model_class.unsupported, "nonsense"]
    body = data.draw(st.dictionaries(st.sampled_from(names), JSON, max_size=4))
    try:
        parse(json.dumps({"model": "demo", "messages": [USER], **body}).encode(), model_class)
    except InvalidRequest as error:
        json.loads(error.body())
