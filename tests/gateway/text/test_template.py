from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest
from sluice_gateway.errors import InvalidRequest
from sluice_gateway.template import ChatTemplate

from tests.gateway.text.samples import CHATML
from tests.gateway.text.templates import FAMILIES, LLAMA3, reference

DEMO = Path("services/worker/sluice_worker/demo_model")
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SYSTEM = {"role": "system", "content": "Be  <brief> & kind.\n"}
USER = {"role": "user", "content": " What's up?\n\nünï <b> "}
ANSWER = {"role": "assistant", "content": "<think>hm</think>\n\nNot much. "}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "look", "arguments": {"at": "the <sky>", "n": 1}},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "blue"}
CHATS: dict[str, list[dict[str, Any]]] = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "long": [SYSTEM, USER, ANSWER, USER, ANSWER, USER],
    "open": [USER, ANSWER],
    "tools": [USER, CALL, RESULT],
    "twice": [USER, USER],
}


def ours(template: str, chat: list[dict[str, Any]], **options: Any) -> str:
    return ChatTemplate({"default": template}, TOKENS).render(chat, **options)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", [True, False])
def test_a_chat_renders_as_transformers_renders_it(family: str, chat: str, prompt: bool) -> None:
    template, messages = FAMILIES[family], CHATS[chat]
    refused = None
    try:
        expected = reference(template, messages, add_generation_prompt=prompt, **TOKENS)
    except jinja2.TemplateError as error:
        refused = str(error)
    if refused is None:
        assert ours(template, messages, add_generation_prompt=prompt) == expected
    else:
        with pytest.raises(InvalidRequest, match=re.escape(refused)):
            ours(template, messages, add_generation_prompt=prompt)


@pytest.mark.parametrize("chat", CHATS)
def test_the_demo_models_template_renders_as_in_transformers(chat: str) -> None:
    files = {path.name: path.read_bytes() for path in DEMO.iterdir() if path.suffix != ".bin"}
    source = files["chat_template.jinja"].decode()
    rendered = ChatTemplate.from_files(files).render(CHATS[chat])
    assert rendered == reference(source, CHATS[chat], add_generation_prompt=True)


def test_variables_of_the_client_reach_the_template_but_override_nothing() -> None:
    thinking = ours(FAMILIES["qwen3"], [USER], variables={"enable_thinking": False})
    assert thinking.endswith("<think>\n\n</think>\n\n")
    given = {"messages": [], "bos_token": "<x>", "add_generation_prompt": False}
    assert "What's up?" in ours(LLAMA3, [USER], variables=given)


def test_a_refusal_of_the_template_is_a_400_in_its_own_words() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ours(FAMILIES["gemma"], [SYSTEM, USER])
    assert caught.value.message == "System role not supported"
    assert (caught.value.status, caught.value.param) == (400, "messages")


@pytest.mark.parametrize(
    "template",
    ["{{ messages[99].content.x }}", "{{ 1 / 0 }}", "{{ nothing() }}", "{{ ''.__class__.mro() }}"],
)
def test_any_other_failure_is_a_400_without_a_traceback(template: str) -> None:
    with pytest.raises(InvalidRequest, match="chat template failed") as caught:
        ours(template, [USER])
    assert "Traceback" not in caught.value.message
    assert "/" not in caught.value.message.replace("1 / 0", "")


def test_a_broken_template_breaks_chats_only() -> None:
    template = ChatTemplate({"default": "{% for %}"})
    with pytest.raises(InvalidRequest, match="chat template is broken: TemplateSyntaxError"):
        template.render([USER])


def test_a_model_without_a_template_sends_one_to_completions() -> None:
    with pytest.raises(InvalidRequest, match="Use /v1/completions") as caught:
        ChatTemplate.from_files({}).render([USER])
    assert caught.value.code == "no_chat_template"


def test_named_templates_are_chosen_by_whether_there_are_tools() -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "tools"}]
    config = json.dumps({"chat_template": named}).encode()
    template = ChatTemplate.from_files({"tokenizer_config.json": config})
    assert template.render([USER]) == "plain"
    assert template.render([USER], tools=[{}]) == "tools"


def test_the_template_file_wins_over_the_config() -> None:
    config = json.dumps({"chat_template": "config", "eos_token": {"content": "</s>"}}).encode()
    files = {"tokenizer_config.json": config, "chat_template.jinja": b"file {{ eos_token }}"}
    assert ChatTemplate.from_files(files).render([USER]) == "file </s>"


@pytest.mark.parametrize("malformed", [[{"name": "default"}], [5], {"default": 5}])
def test_a_malformed_list_of_templates_is_a_value_error(malformed: Any) -> None:
    config = json.dumps({"chat_template": malformed}).encode()
    with pytest.raises(ValueError, match="malformed chat_template"):
        ChatTemplate.from_files({"tokenizer_config.json": config})


BOMBS: Mapping[str, str] = {
    "endless": "{% macro m() %}{{ m() }}{% endmacro %}"
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "output": "{% for a in range(99999) %}{% for b in range(99999) %}xxxxxxxx{% endfor %}"
    "{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "times": "{{ 'a' * 10**10 }}",
    "times list": "{{ [0] * 10**10 }}",
    "power": "{{ 9 ** 999999999 }}",
    "range": "{{ range(10**9) | list }}",
    "doubling +": "{% set n = namespace(s='aaaaaaaa') %}"
    "{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "doubling ~": "{% set n = namespace(s='aaaaaaaa') %}"
    "{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubling list": "{% set n = namespace(s=[1]) %}"
    "{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "doubling block": "{% set n = namespace(s='aaaaaaaa') %}"
    "{% for i in range(60) %}{% set t %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = t %}"
    "{% endfor %}",
    "percent": "{{ '%9999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "format": "{{ '{:>9999999999}'.format(1) }}",
    "format map": "{{ '{a:>9999999999}'.format_map({'a': 1}) }}",
    "format many": "{% set s = 'a' * 1000000 %}{{ ('{0}' * 100000).format(s) }}",
    "percent many": "{% set s = 'a' * 1000000 %}{{ ('%(a)s' * 100000) % {'a': s} }}",
    "format nested": "{{ '{:>{w}}'.format(1, w=10**9) }}",
    "format filter": "{{ '%9999999999d' | format(1) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "zfill": "{{ 'a'.zfill(10**10) }}",
    "center": "{{ 'a' | center(10**10) }}",
    "indent": "{{ ('a\n' * 1000000) | indent(1000000) }}",
    "indent string": "{{ ('a\n' * 1000000) | indent('x' * 1000000) }}",
    "replace": "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "replace filter": "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
    "join": "{{ ('b' * 1000000).join('a' * 1000000) }}{{ ('b' * 1000000).join(['a'] * 1000000) }}",
    "join filter": "{{ (['a'] * 1000000) | join('b' * 1000000) }}",
    "many references": "{{ (['a' * 1000000] * 1000000) | string }}",
    "many references out": "{{ ['a' * 1000000] * 1000000 }}",
    "many references ~": "{{ '' ~ ['a' * 1000000] * 1000000 }}",
    "many references json": "{{ (['a' * 1000000] * 1000000) | tojson }}",
    "many references join": "{{ (['a' * 1000000] * 1000000) | join }}",
    "macro": "{% set s = 'a' * 1000000 %}{% macro m() %}"
    "{% for i in range(99999) %}{{ s }}{% endfor %}{% endmacro %}{{ m() }}",
    "expandtabs": "{{ ('\t' * 1000000).expandtabs(1000000) }}",
    "round": "{{ 1.5 | round(10**9, 'floor') }}",
    "lipsum": "{{ lipsum(n=10**9) }}",
    "translate": "{{ ('a' * 1000000).translate({97: 'b' * 1000000}) }}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_a_template_is_a_400_in_bounded_time(bomb: str) -> None:
    template = ChatTemplate({"default": BOMBS[bomb]}, seconds=0.5, output_max=1_000_000)
    start = time.monotonic()
    with pytest.raises(InvalidRequest, match="chat template"):
        template.render([USER])
    assert time.monotonic() - start < 20


def test_a_bomb_does_not_harm_the_next_chat() -> None:
    template = ChatTemplate({"default": BOMBS["endless"], "tool_use": CHATML}, seconds=0.2)
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="takes too long"):
            template.render([USER])
        assert "What's up" in template.render([USER], tools=[])


def test_ordinary_steps_on_a_long_chat_are_within_bounds() -> None:
    long = {"role": "user", "content": "x" * 4_000_000}
    for family in ("llama2", "llama3", "mistral", "qwen3", "phi", "deepseek", "gemma"):
        assert len(ours(FAMILIES[family], [long])) > 4_000_000
