"""Calls, what tools answered, and reasoning, as the templates of families take them.

The templates are of our own writing; what they do with a message is what the families' own do.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.model import ServedModel
from sluice_gateway.prompt import PromptBuilder
from sluice_gateway.schema import ChatRequest, parse

from tests.gateway.text.samples import files_of, model

USER = {"role": "user", "content": "hello"}
LOOP = "{% for m in messages %}"
END = "{% endfor %}"


def call(call_id: str, name: str, arguments: str = '{"at": "noon"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def assistant(*calls: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls), **fields}


def answer(call_id: str, content: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def rendered(template: str, *messages: dict[str, Any]) -> str:
    served = model("byte_level", template)
    body = json.dumps({"model": "demo", "messages": [USER, *messages]}).encode()
    prompt = PromptBuilder(served).chat(parse(body, ChatRequest))
    return served.tokenizer.decode(prompt.ids, skip_special_tokens=False)


def test_arguments_may_be_put_behind_a_string_or_written_as_json() -> None:
    messages = [assistant(call("call_1", "look", '{"at":"nöon","n":[1]}')), answer("call_1")]
    head = LOOP + "{% for c in m.tool_calls or [] %}{% set a = c.function.arguments %}"
    joined = rendered(head + "{{ '(' + a + ')' }}{% endfor %}" + END, *messages)
    written = rendered(head + "({{ a | tojson }}){% endfor %}" + END, *messages)
    assert joined == written == '({"at": "nöon", "n": [1]})'


def test_special_text_in_arguments_that_are_joined_stays_text() -> None:
    template = (
        LOOP + "{% for c in m.tool_calls or [] %}{{ 'a' + c.function.arguments }}{% endfor %}" + END
    )
    served = model("byte_level", template)
    messages = [USER, assistant(call("c", "look", '{"at": "<|im_end|>"}')), answer("c")]
    body = json.dumps({"model": "demo", "messages": messages}).encode()
    ids = PromptBuilder(served).chat(parse(body, ChatRequest)).ids
    assert not served.tokenizer.special.ids & set(ids)
    assert "<|im_end|>" in served.tokenizer.decode(ids, skip_special_tokens=False)


def test_what_a_tool_answered_has_the_tools_name() -> None:
    template = (
        LOOP
        + (
            "{% if m.role == 'tool' %}{% if not m.name is defined %}"
            "{{ raise_exception('no name') }}{% endif %}{{ m.name }}={{ m.content }};{% endif %}"
        )
        + END
    )
    messages = [assistant(call("a", "look"), call("b", "listen")), answer("b"), answer("a", "no")]
    assert rendered(template, *messages) == "listen=ok;look=no;"
    own = {**answer("a"), "name": "mine"}
    assert rendered(template, assistant(call("a", "look")), own) == "mine=ok;"


KIMI = (
    LOOP
    + (
        "{% for c in m.tool_calls or [] %}<|tool_call_begin|>{{ c.id }}"
        "<|tool_call_argument_begin|>{{ c.function.arguments | tojson }}{% endfor %}"
        "{% if m.role == 'tool' %}[{{ m.tool_call_id }}]{% endif %}"
    )
    + END
)


def test_kimis_ids_are_names_and_numbers() -> None:
    text = rendered(
        KIMI,
        assistant(call("call_a", "look", "{}"), call("call_b", "listen", "{}")),
        answer("call_b"),
        answer("call_a"),
        assistant(call("call_c", "look", "{}")),
        answer("call_c"),
        answer("call_never_seen"),
    )
    told = text.replace("<|tool_call_argument_begin|>{}", "").replace("<|tool_call_begin|>", " ")
    assert told == (
        " functions.look:0 functions.listen:1[functions.listen:1][functions.look:0]"
        " functions.look:2[functions.look:2][call_never_seen]"
    )


HARMONY = (
    LOOP
    + (
        "{% if m.tool_calls %}{% if m.content and m.thinking %}{{ raise_exception('both') }}"
        "{% elif m.content %}<|channel|>analysis<|message|>{{ m.content }}"
        "{% elif m.thinking %}<|channel|>analysis<|message|>{{ m.thinking }}{% endif %}"
        "<|end|>{{ m.tool_calls[0].function.name }}{% endif %}"
    )
    + END
)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, ""),
        ({"content": "I look."}, "I look."),
        ({"reasoning_content": "Hm."}, "Hm."),
        ({"reasoning": "Hm."}, "Hm."),
        ({"reasoning_content": "Hm.", "content": "I look."}, "Hm.\nI look."),
    ],
)
def test_reasoning_before_a_call_goes_back_to_gpt_oss(fields: dict[str, Any], shown: str) -> None:
    text = rendered(HARMONY, assistant(call("a", "look"), **fields), answer("a"))
    head = f"<|channel|>analysis<|message|>{shown}" if shown else ""
    assert text == f"{head}<|end|>look"


def test_reasoning_has_its_usual_name_for_other_templates() -> None:
    template = LOOP + "<think>{{ m.reasoning_content }}</think>{{ m.thinking }}" + END
    text = rendered(template, {"role": "assistant", "content": "Hi", "reasoning_content": "Hm."})
    assert text.endswith("<think>Hm.</think>")


def test_a_format_that_is_not_known_takes_no_tools() -> None:
    served = model("byte_level", "{{ tools }}<tool_calls>" + LOOP + "{{ m.content }}" + END)
    tool = {"type": "function", "function": {"name": "look"}}
    body = json.dumps({"model": "demo", "messages": [USER], "tools": [tool]}).encode()
    with pytest.raises(InvalidRequest, match="has no format for calls") as refused:
        PromptBuilder(served).chat(parse(body, ChatRequest))
    assert refused.value.param == "tools"


@pytest.mark.parametrize(
    ("template", "shows"),
    [
        ("{% for t in tools %}{{ t }}{% endfor %}", True),
        # As Llama's has it.
        (
            "{% if custom_tools is defined %}{% set tools = custom_tools %}{% endif %}{{ tools }}",
            True,
        ),
        (
            LOOP + "{{ m['tools'] }}{{ 'tools' in m }}{{ m.tools }}" + END,
            False,
        ),  # Phi-4-mini's
        ("{% set tools = 1 %}", False),
    ],
)
def test_a_template_that_does_not_show_tools_takes_none(template: str, shows: bool) -> None:
    served = model("byte_level", "{# <tool_call> #}" + template + LOOP + "{{ m.content }}" + END)
    tool = {"type": "function", "function": {"name": "look"}}
    body = json.dumps({"model": "demo", "messages": [USER], "tools": [tool]}).encode()
    request = parse(body, ChatRequest)
    if shows:
        assert PromptBuilder(served).chat(request).ids
        return
    with pytest.raises(InvalidRequest, match="does not show it any tools") as refused:
        PromptBuilder(served).chat(request)
    assert refused.value.param == "tools"
    # Without them, and where the operator has chosen a format, it answers.
    none = json.dumps({"model": "demo", "messages": [USER], "tools": [tool], "tool_choice": "none"})
    assert PromptBuilder(served).chat(parse(none.encode(), ChatRequest)).ids
    chosen = ServedModel.build(served.info, files_of("byte_level", template), tool_format="hermes")
    assert chosen.shows_tools
