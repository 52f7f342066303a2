from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sluice_gateway.errors import ContextLengthExceeded, InvalidRequest
from sluice_gateway.model import ModelInfo, ServedModel
from sluice_gateway.prompt import Prompt, PromptBuilder
from sluice_gateway.schema import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    parse,
)
from sluice_gateway.tokenizer import Tokenizer
from transformers import PreTrainedTokenizerFast

from tests.gateway.text.samples import CHATML, KINDS, files_of, model, raw_tokenizer, token_id
from tests.gateway.text.templates import FAMILIES, GEMMA, reference

RAW = raw_tokenizer("byte_level")
USER = {"role": "user", "content": "hello there"}
DEMO = Path("services/worker/sluice_worker/demo_model")


def chat_request(messages: list[Any], **fields: Any) -> ChatRequest:
    body = {"model": "demo", "messages": messages, **fields}
    return parse(json.dumps(body).encode(), ChatRequest)


def chat(messages: list[Any], served: ServedModel | None = None, **fields: Any) -> Prompt:
    return PromptBuilder(served or model()).chat(chat_request(messages, **fields))


def completions(prompt: Any, served: ServedModel | None = None, **fields: Any) -> list[Prompt]:
    body = {"model": "demo", "prompt": prompt, **fields}
    request = parse(json.dumps(body).encode(), CompletionRequest)
    return PromptBuilder(served or model()).completions(request)


def text_of(prompt: Prompt) -> str:
    return RAW.decode(prompt.ids, skip_special_tokens=False)


def test_a_chat_becomes_the_templates_text_in_ids() -> None:
    prompt = chat([USER])
    expected = "<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\n"
    assert prompt.ids == RAW.encode(expected, add_special_tokens=False).ids
    assert prompt.max_tokens == 1000 - len(prompt.ids)


def test_the_demo_models_prompts_are_those_of_transformers() -> None:
    files = {path.name: path.read_bytes() for path in DEMO.glob("*token*.json")}
    files["chat_template.jinja"] = (DEMO / "chat_template.jinja").read_bytes()
    theirs = PreTrainedTokenizerFast.from_pretrained(DEMO)
    served = ServedModel.build(ModelInfo("demo", 2048, 4096), files)
    messages = [{"role": "system", "content": "Be brief."}, USER]
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert chat(messages, served).ids == expected


def test_the_bos_token_is_written_once() -> None:
    llama = model("llama", FAMILIES["llama2"], bos_token="<s>", eos_token="</s>")
    ids = chat([USER], llama).ids
    assert ids.count(1) == 1
    assert completions("hello", llama)[0].ids[0] == 1


SPECIALS = [token.content for token in model().tokenizer.special.by_id.values()]
WILD = st.lists(
    st.sampled_from([*SPECIALS, "<|im_", "start|>", "a", " ", "\n"]) | st.text(max_size=4),
    max_size=6,
).map("".join)


@settings(max_examples=100, deadline=None)
@given(WILD, WILD, WILD)
def test_special_tokens_that_a_client_writes_are_only_text(
    name: str, content: str, arguments: str
) -> None:
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.name }}\n{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.arguments | tojson }}{% endfor %}"
        "<|im_end|>\n{% endfor %}"
    )
    call = {"name": "f", "arguments": json.dumps({"x": arguments, arguments: [1]})}
    messages = [
        {"role": "user", "name": name or "n", "content": content},
        {"role": "assistant", "tool_calls": [{"id": "1", "function": call}]},
    ]
    prompt = chat(messages, model(template=template))
    special = model().tokenizer.special.ids
    start, end = token_id("byte_level", "<|im_start|>"), token_id("byte_level", "<|im_end|>")
    assert [one for one in prompt.ids if one in special] == [start, end, start, end]
    written = json.dumps({"x": arguments, arguments: [1]}, ensure_ascii=False)
    assert text_of(prompt) == (
        f"<|im_start|>user {name or 'n'}\n{content}<|im_end|>\n"
        f"<|im_start|>assistant \n{written}<|im_end|>\n"
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None)
@given(st.data())
def test_no_vocabulary_lets_a_client_add_special_tokens(kind: str, data: st.DataObject) -> None:
    special = model(kind).tokenizer.special
    contents = [token.content for token in special.by_id.values()]
    content = "".join(data.draw(st.lists(st.sampled_from([*contents, "a ", " b"]), max_size=5)))
    frame = contents[1]
    template = "{{ '%s' }}{{ messages[0].content }}{{ '%s' }}" % (frame, frame)  # noqa: UP031

    def count(text: str) -> int:
        ids = chat([{"role": "user", "content": text}], model(kind, template)).ids
        return len([one for one in ids if one in special.ids and one != special.unk_id])

    assert count(content) == count("")


def test_template_variables_are_shielded_too() -> None:
    template = "{{ system }}{{ messages[0].content }}"
    request = chat_request([USER], chat_template_kwargs={"system": "<|im_end|>"})
    builder = PromptBuilder(model(template=template), template_variables=frozenset({"system"}))
    assert token_id("byte_level", "<|im_end|>") not in builder.chat(request).ids


@pytest.mark.parametrize("name", ["messages", "tools", "bos_token", "x"])
def test_template_variables_are_allow_listed(name: str) -> None:
    request = chat_request([USER], chat_template_kwargs={name: "x"})
    builder = PromptBuilder(model(), template_variables=frozenset({"enable_thinking"}))
    with pytest.raises(InvalidRequest, match="Allowed: enable_thinking") as caught:
        builder.chat(request)
    assert caught.value.param == f"chat_template_kwargs.{name}"


def test_text_parts_are_joined_for_a_template_that_wants_a_string() -> None:
    parts = [{"type": "text", "text": "hello "}, {"type": "text", "text": "there"}]
    assert chat([{"role": "user", "content": parts}]).ids == chat([USER]).ids


def test_text_parts_stay_parts_for_a_template_that_loops_over_them() -> None:
    parts = [{"type": "text", "text": " hello "}, {"type": "text", "text": " there "}]
    prompt = chat([{"role": "user", "content": parts}], model(template=GEMMA))
    assert "hellothere<end_of_turn>" in text_of(prompt)


def test_a_developer_is_the_system_where_the_template_knows_none() -> None:
    told = [{"role": "developer", "content": "Be brief."}, USER]
    assert text_of(chat(told)).startswith("<|im_start|>system\nBe brief.")
    knows = model(template=CHATML + "{# developer #}")
    assert text_of(chat(told, knows)).startswith("<|im_start|>developer\n")


def test_the_arguments_of_a_call_are_an_object_if_they_are_json() -> None:
    template = "{{ messages[0].tool_calls[0].function.arguments is mapping }}"

    def is_mapping(arguments: str) -> str:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        messages = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        return text_of(chat(messages, model(template=template)))

    assert is_mapping('{"a": 1}') == "True"
    assert {is_mapping(text) for text in ("", "{", "[1]", '{"a": NaN}', "[" * 9999)} == {"False"}


@pytest.mark.parametrize("family", ["llama3", "qwen3", "phi", "deepseek", "llama2", "gemma"])
@pytest.mark.parametrize("content", ["So the", "So the ", "a\n\n", "  x  "])
def test_a_final_message_is_continued_as_in_transformers(family: str, content: str) -> None:
    messages = [USER, {"role": "assistant", "content": content}]
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    expected = reference(FAMILIES[family], messages, continue_final_message=True, **tokens)
    served = model(template=FAMILIES[family], **tokens)
    assert text_of(chat(messages, served, continue_final_message=True)) == expected


def test_a_final_message_that_the_template_hides_cannot_be_continued() -> None:
    messages = [USER, {"role": "assistant", "content": "x"}]
    served = model(template="{{ messages[0].content }}")
    with pytest.raises(InvalidRequest, match="does not show the final message"):
        chat(messages, served, continue_final_message=True)


def test_a_continued_message_may_have_special_text_in_it() -> None:
    messages = [USER, {"role": "assistant", "content": "a<|im_end|>"}]
    prompt = chat(messages, continue_final_message=True)
    assert text_of(prompt).endswith("<|im_start|>assistant\na<|im_end|>")
    assert prompt.ids[-1] != token_id("byte_level", "<|im_end|>")


def test_a_chat_that_is_too_long_is_refused_with_the_numbers() -> None:
    size = len(chat([USER]).ids)
    small = model(max_model_len=size)
    with pytest.raises(ContextLengthExceeded) as caught:
        chat([USER], small)
    assert caught.value.message == (
        f"This model's maximum context length is {size} tokens. However, your messages resulted"
        f" in {size} tokens, which leaves no room for a completion. Please reduce the length of"
        " the messages."
    )
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert chat([USER], model(max_model_len=size + 1)).max_tokens == 1


def test_prompt_and_completion_together_must_fit() -> None:
    size = len(chat([USER]).ids)
    assert chat([USER], max_tokens=1000 - size).max_tokens == 1000 - size
    with pytest.raises(ContextLengthExceeded, match=f"requested 1001 tokens \\({size} in the mes"):
        chat([USER], max_tokens=1001 - size)
    assert chat([USER], max_tokens=5000, max_completion_tokens=3).max_tokens == 3


def test_a_completion_gets_sixteen_tokens_or_what_is_left() -> None:
    assert completions("hello")[0].max_tokens == 16
    assert completions([1, 2], model(max_model_len=10))[0].max_tokens == 8
    assert completions([1, 2], max_tokens=500)[0].max_tokens == 500
    with pytest.raises(ContextLengthExceeded):
        completions([1, 2], model(max_model_len=10), max_tokens=9)
    with pytest.raises(ContextLengthExceeded):
        completions(list(range(10)), model(max_model_len=10))


def test_min_tokens_must_be_possible() -> None:
    with pytest.raises(InvalidRequest, match="at most 16 tokens") as caught:
        completions("hello", min_tokens=17)
    assert caught.value.param == "min_tokens"


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was tokenized")

    monkeypatch.setattr(Tokenizer, "_encoding", never)
    monkeypatch.setattr(Tokenizer, "_encode_literally", never)


@pytest.mark.usefixtures("no_encoding")
def test_a_text_of_too_many_tokens_is_refused_without_being_tokenized() -> None:
    served = model(max_model_len=100)
    for content in ("a" * 8000, "<|im_end|>" + "a" * 8000):
        with pytest.raises(ContextLengthExceeded, match="at least"):
            chat([{"role": "user", "content": content}], served)
    with pytest.raises(ContextLengthExceeded, match="at least"):
        completions("a" * 8000, served)


@pytest.mark.usefixtures("no_encoding")
@pytest.mark.parametrize("kind", KINDS)
def test_with_no_tokenizer_is_a_huge_text_tokenized(kind: str) -> None:
    served = model(kind, max_model_len=1000)
    halves = [{"role": "user", "content": "a" * 40_000}] * 2
    for messages in (halves, [{**USER, "content": "a" * 8_000_000}]):
        with pytest.raises(ContextLengthExceeded, match="characters, of which at most") as caught:
            chat(messages, served)
        assert caught.value.param == "messages"
    with pytest.raises(ContextLengthExceeded, match="characters") as caught:
        completions(["a" * 8_000_000, "a"], served)
    assert caught.value.param == "prompt[0]"


@pytest.mark.usefixtures("no_encoding")
def test_what_a_template_makes_huge_is_not_tokenized() -> None:
    served = model("word_piece", "{% for _ in range(100) %}{{ messages[0].content }}{% endfor %}")
    with pytest.raises(ContextLengthExceeded, match="characters"):
        chat([{"role": "user", "content": "a" * 1000}], served)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_fits_is_not_refused_for_its_characters(kind: str) -> None:
    ids = completions("the " * 2048, model(kind, max_model_len=8300))[0].ids
    assert len(ids) > 2000
    assert tokenize(model(kind, max_model_len=10), prompt="the " * 20_000)


def test_prompts_of_every_kind_are_taken_in_order() -> None:
    ids = RAW.encode("hello").ids
    assert [prompt.ids for prompt in completions(["hello", "a"])] == [ids, RAW.encode("a").ids]
    assert completions([ids, [1]])[1].ids == [1]
    assert completions(ids)[0].ids == ids
    assert completions("<|im_end|>")[0].ids == [token_id("byte_level", "<|im_end|>")]


def test_the_prompts_text_is_there_for_echo_only() -> None:
    assert completions("hello")[0].text == ""
    assert completions("hello", echo=True)[0].text == "hello"
    ids = RAW.encode("hello").ids
    assert completions(ids, echo=True)[0].text == "hello"


@pytest.mark.parametrize(("prompt", "param"), [("", "prompt"), (["a", ""], "prompt[1]")])
def test_an_empty_prompt_is_refused(prompt: Any, param: str) -> None:
    with pytest.raises(InvalidRequest, match="empty") as caught:
        completions(prompt)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1, 500]}, "prompt"),
        ({"prompt": [[1], [500]]}, "prompt[1]"),
        ({"logit_bias": {"500": 1}}, "logit_bias"),
        ({"allowed_token_ids": [1, 500]}, "allowed_token_ids"),
        ({"stop_token_ids": [500]}, "stop_token_ids"),
    ],
)
def test_no_token_id_beyond_the_logits_gets_in(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest, match="vocabulary of 500 tokens") as caught:
        completions(**{"prompt": "a", "served": model(vocab_size=500), **fields})
    assert caught.value.param == param
    if "prompt" not in fields:
        with pytest.raises(InvalidRequest, match="vocabulary of 500 tokens"):
            chat([USER], model(vocab_size=500), **fields)


def test_a_token_of_the_tokenizer_that_the_model_lacks_is_refused() -> None:
    think = token_id("byte_level", "<think>")
    with pytest.raises(InvalidRequest, match=f"token id {think}"):
        completions("a<think>", model(vocab_size=think))


def tokenize(served: ServedModel | None = None, **fields: Any) -> list[int]:
    request = parse(json.dumps(fields).encode(), TokenizeRequest)
    return PromptBuilder(served or model()).tokenize(request)


def test_tokenize_gives_the_ids_that_a_request_would_have() -> None:
    assert tokenize(messages=[USER]) == chat([USER]).ids
    assert tokenize(prompt="hello") == completions("hello")[0].ids
    assert tokenize(prompt="") == []
    llama = model("llama", FAMILIES["phi"])
    assert tokenize(llama, prompt="hello")[1:] == tokenize(
        llama, prompt="hello", add_special_tokens=False
    )
    for content in ("a", "a</s>"):
        messages = [{"role": "user", "content": content}]
        without = tokenize(llama, messages=messages)
        assert tokenize(llama, messages=messages, add_special_tokens=True) == [1, *without]


@pytest.mark.usefixtures("no_encoding")
@pytest.mark.parametrize("kind", KINDS)
def test_tokenize_refuses_what_is_longer_than_it_says(kind: str) -> None:
    with pytest.raises(InvalidRequest, match="at most 1000000 characters") as caught:
        tokenize(model(kind), prompt="a" * 8_000_000)
    assert (caught.value.param, caught.value.code) == ("prompt", "invalid_value")
    with pytest.raises(InvalidRequest, match="at most 1000000 characters") as caught:
        tokenize(model(kind), messages=[{"role": "user", "content": "a" * 250_000}] * 4)
    assert (caught.value.param, caught.value.code) == ("messages", "invalid_value")


def test_detokenize_refuses_more_ids_than_it_says() -> None:
    with pytest.raises(InvalidRequest, match="at most 1000000 items") as caught:
        parse(json.dumps({"tokens": [1] * 1_000_001}).encode(), DetokenizeRequest)
    assert caught.value.param == "tokens"


def test_detokenize_turns_ids_back_into_text() -> None:
    request = DetokenizeRequest(tokens=chat([USER]).ids)
    text = PromptBuilder(model()).detokenize(request)
    assert text.startswith("<|im_start|>user\nhello there")
    with pytest.raises(InvalidRequest, match="vocabulary"):
        PromptBuilder(model()).detokenize(DetokenizeRequest(tokens=[10**6]))


def test_no_tokens_are_no_text_as_no_text_is_no_tokens() -> None:
    assert PromptBuilder(model()).detokenize(DetokenizeRequest(tokens=[])) == ""
    assert PromptBuilder(model()).tokenize(TokenizeRequest(prompt="")) == []


def test_a_model_serves_the_same_as_one_with_the_same_numbers() -> None:
    files = files_of("byte_level")
    one = ServedModel.build(ModelInfo("demo", 10, 400, created=1), files)
    same = ServedModel.build(ModelInfo("demo", 10, 400, created=2), files)
    other = ServedModel.build(ModelInfo("demo", 10, 400, fingerprint="int8"), files)
    assert one.serves_same_as(same)
    assert not one.serves_same_as(other)
