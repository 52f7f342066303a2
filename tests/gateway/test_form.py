"""What a request asks of the form of its answers, and what a worker is told of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.form import PLAIN, AnswerForm, chat_form, completion_form
from sluice_gateway.model import ServedModel
from sluice_gateway.output.formats import Opening
from sluice_gateway.prompt import PromptBuilder
from sluice_gateway.schema import ChatRequest, CompletionRequest, parse
from sluice_gateway.settings import Settings
from sluice_gateway.template import ChatTemplate

from tests.gateway.text.samples import model
from tests.gateway.text.templates import QWEN3

USER = {"role": "user", "content": "hello there"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "g"}},
]
NAMED = {"type": "function", "function": {"name": "g"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}
OBJECT = {"type": "json_object"}
TEMPLATE = "{{ tools | tojson }}<tool_call>{{ messages[0].content }}"


def served(template: str = TEMPLATE, *, structured: bool = True) -> ServedModel:
    found = model("byte_level", template)
    return replace(found, info=replace(found.info, structured_output=structured))


def chat(**fields: Any) -> ChatRequest:
    return parse(json.dumps({"messages": [USER], **fields}).encode(), ChatRequest)


def form(template: str = TEMPLATE, **fields: Any) -> AnswerForm:
    return chat_form(chat(**fields), served(template), Opening.OPEN)


def test_nothing_asked_is_plain_text() -> None:
    assert form() == PLAIN
    assert form(tools=TOOLS, tool_choice="none") == PLAIN
    assert form(response_format={"type": "text"}) == PLAIN


def test_tools_that_may_be_called_need_nothing_of_the_engine() -> None:
    for fields in ({}, {"tool_choice": "auto"}, {"parallel_tool_calls": True}):
        found = form(tools=TOOLS, **fields)
        assert found.structured is None
        assert set(found.tools) == {"f", "g"}
        assert found.formats is not None


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"tool_choice": "required"}, {"f", "g"}),
        ({"tool_choice": NAMED}, {"g"}),
        ({"tool_choice": ALLOWED}, {"g"}),
        ({"parallel_tool_calls": False}, {"f", "g"}),
        ({"response_format": OBJECT}, {"f", "g"}),
    ],
)
def test_what_must_be_enforced_of_calls_is_a_grammar(
    fields: dict[str, Any], names: set[str]
) -> None:
    found = form(tools=TOOLS, **fields)
    assert found.structured is not None
    assert found.structured.WhichOneof("constraint") == "grammar"
    assert set(found.tools) == names
    assert found.names_tool == (fields.get("tool_choice") is NAMED)
    assert found.source == ("response_format" if "response_format" in fields else "tools")


def test_calls_without_a_mark_cannot_be_told_from_json() -> None:
    template = "{{ tools | tojson }}{{ messages[0].content }}"
    with pytest.raises(InvalidRequest) as caught:
        form(template, tools=TOOLS, response_format=OBJECT)
    assert caught.value.param == "response_format"
    assert form(template, tools=TOOLS, tool_choice="required", response_format=OBJECT).structured


def test_required_tools_win_over_the_texts_form() -> None:
    both = form(tools=TOOLS, tool_choice="required", response_format=OBJECT)
    assert both == form(tools=TOOLS, tool_choice="required")


@pytest.mark.parametrize(
    ("fields", "kind", "source"),
    [
        ({"response_format": OBJECT}, "json_schema", "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "json_schema",
            "response_format",
        ),
        ({"structured_outputs": {"json": SCHEMA}}, "json_schema", "structured_outputs"),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "structured_outputs"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choices", "structured_outputs"),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, "grammar", "structured_outputs"),
    ],
)
def test_the_form_of_a_text_reaches_the_worker(
    fields: dict[str, Any], kind: str, source: str
) -> None:
    found = form(**fields)
    assert found.structured is not None
    assert (found.structured.WhichOneof("constraint"), found.source) == (kind, source)
    assert found.formats is None
    request = parse(json.dumps({"prompt": "x", **fields}).encode(), CompletionRequest)
    completion = completion_form(request, served())
    assert (completion.structured, completion.source) == (found.structured, source)


def test_a_model_that_reasons_may_do_so_before_what_is_enforced() -> None:
    found = form("<think>" + TEMPLATE, response_format=OBJECT)
    assert found.structured is not None
    assert found.structured.grammar.startswith("start: (")
    plain = chat_form(chat(response_format=OBJECT), served("<think>"), Opening.CLOSED)
    assert plain.structured == form(response_format=OBJECT).structured


def test_a_model_whose_template_shows_no_tools_refuses_them() -> None:
    builder = PromptBuilder(served("{{ messages[0].content }}"))
    with pytest.raises(InvalidRequest) as caught:
        builder.chat(chat(tools=TOOLS))
    assert caught.value.param == "tools"
    builder.chat(chat(tools=TOOLS, tool_choice="none"))


def test_the_prompts_end_says_whether_reasoning_is_open() -> None:
    builder = PromptBuilder(served(QWEN3), template_variables=frozenset({"enable_thinking"}))
    assert builder.chat(chat()).form.opening is Opening.OPEN
    off = builder.chat(chat(reasoning_effort="none"))
    assert off.form.opening is Opening.CLOSED
    assert off.ids == builder.chat(chat(chat_template_kwargs={"enable_thinking": False})).ids
    template = served(QWEN3 + "{{ '<think>\n' }}")
    assert PromptBuilder(template).chat(chat()).form.opening is Opening.INSIDE


def test_reasoning_effort_is_a_variable_of_the_template() -> None:
    one = served("{{ reasoning_effort }}{{ messages[0].content }}")
    ids = PromptBuilder(one).chat(chat(reasoning_effort="high")).ids
    assert one.tokenizer.decode(ids) == "highhello there"


def test_special_tokens_in_tools_are_only_text() -> None:
    mark = "<|im_end|>"
    schema = {"type": "object", "properties": {mark: {"type": "string", "title": mark}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    call = {"name": "f", "arguments": json.dumps({"type": mark, "role": mark, mark: 1})}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": mark, "type": "function", "function": call}]},
    ]
    template = "{{ tools | tojson }}{% for m in messages %}{{ m | tojson }}{% endfor %}"
    one = served(template)
    request = chat(messages=messages, tools=tools)
    ids = PromptBuilder(one).chat(request).ids
    assert not one.tokenizer.special.ids & set(ids)
    assert one.tokenizer.decode(ids, skip_special_tokens=False).count(mark) == 6


def test_templates_of_mistrals_get_ids_of_nine_characters() -> None:
    call = {"id": "call_abcdef", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_abcdef", "content": "x"},
    ]
    one = served("[TOOL_CALLS]{{ messages[1].tool_calls[0].id }} {{ messages[2].tool_call_id }}")
    ids = PromptBuilder(one).chat(chat(messages=messages)).ids
    first, second = one.tokenizer.decode(ids).removeprefix("[TOOL_CALLS]").split()
    assert first == second
    assert len(first) == 9


def test_the_operator_may_name_the_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_FORMAT", "hermes")
    monkeypatch.setenv("REASONING_FORMAT", "none")
    settings = Settings()
    assert (settings.tool_format, settings.reasoning_format) == ("hermes", "none")
    monkeypatch.setenv("TOOL_FORMAT", "telepathy")
    with pytest.raises(ValueError, match="choose one of auto, none, harmony"):
        Settings()


def test_a_template_tells_its_source() -> None:
    template = ChatTemplate({"default": "a", "tool_use": "b"})
    assert (template.source(), template.source(tools=True)) == ("a", "b")
