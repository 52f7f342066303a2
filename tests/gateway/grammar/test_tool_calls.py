"""Grammars of calls accept what models write, and what they accept is read as calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sluice_gateway.grammar import Constraint, OfferedTool, tells_calls_apart, tool_grammar
from sluice_gateway.output.formats import REASONING_FORMATS, TOOL_FORMATS, Formats, Opening

from tests.gateway.grammar.matcher import Matcher
from tests.gateway.output.formats.reading import Meaning, machine
from tests.gateway.output.formats.transcripts import BEGIN, DONE, END, ONE, SEP
from tests.gateway.output.formats.transcripts_marked import PARIS, glm_pair, kimi

WEATHER = OfferedTool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "units": {"enum": ["C", "F"]},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
    strict=True,
)
NOW = OfferedTool("now")
TOOLS = [WEATHER, NOW]
BAD = '{"town": "Paris"}'


#: The formats that are a list in JSON between these marks.
LISTS = {
    "mistral": ("[TOOL_CALLS]", ""),
    "tool_call_list": ("<|tool_call|>", ""),
    "phi4_mini": ("<|tool_call|>", "<|/tool_call|>"),
    "functools": ("functools", ""),
    "nemotron": ("<TOOLCALL>", "</TOOLCALL>"),
}


def calls(name: str, arguments: str) -> str:
    if name == "hermes":
        return f'<tool_call>\n{{"name": "get_weather", "arguments": {arguments}}}\n</tool_call>'
    if name in LISTS:
        opening, closing = LISTS[name]
        return f'{opening}[{{"name": "get_weather", "arguments": {arguments}}}]{closing}'
    if name == "kimi_k2":
        return kimi(("get_weather", arguments))
    if name == "glm":
        pairs = json.loads(arguments).items()
        body = "".join(f"{glm_pair(key, value)}\n" for key, value in pairs)
        return f"<tool_call>get_weather\n{body}</tool_call>"
    if name == "mistral_v11":
        return f"[TOOL_CALLS]get_weather[ARGS]{arguments}"
    if name == "llama3":
        return f'{{"name": "get_weather", "parameters": {arguments}}}'
    if name == "json":
        return f'{{"name": "get_weather", "arguments": {arguments}}}'
    if name == "deepseek_v3":
        return f"{BEGIN}{ONE}function{SEP}get_weather\n```json\n{arguments}\n```{DONE}{END}"
    if name == "deepseek_v31":
        return f"{BEGIN}{ONE}get_weather{SEP}{arguments}{DONE}{END}"
    if name == "harmony":
        head = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
        return head + arguments
    body = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n"
        for key, value in json.loads(arguments).items()
    )
    call = f"<tool_call>\n<function=get_weather>\n{body}</function>\n</tool_call>"
    return call.replace("tool_call>", "seed:tool_call>") if name == "seed_oss" else call


def several(name: str) -> str:
    """A call of each tool."""
    if name == "hermes":
        one = f'<tool_call>\n{{"name": "get_weather", "arguments": {PARIS}}}\n</tool_call>'
        return f'{one}\n<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>'
    if name in LISTS:
        closing = LISTS[name][1]
        head = calls(name, PARIS).removesuffix(f"]{closing}")
        return f'{head}, {{"name": "now", "arguments": {{}}}}]{closing}'
    if name == "kimi_k2":
        return kimi(("get_weather", PARIS), ("now", "{}"))
    if name == "glm":
        return f"{calls(name, PARIS)}\n<tool_call>now\n</tool_call>"
    if name == "mistral_v11":
        return f"{calls(name, PARIS)}[TOOL_CALLS]now[ARGS]{{}}"
    if name == "json":
        return f'{calls(name, PARIS)}\n{{"name": "now", "arguments": {{}}}}'
    if name == "deepseek_v3":
        head = calls(name, PARIS).removesuffix(END)
        return f"{head}\n{ONE}function{SEP}now\n```json\n{{}}\n```{DONE}{END}"
    if name == "deepseek_v31":
        return f"{calls(name, PARIS).removesuffix(END)}{ONE}now{SEP}{{}}{DONE}{END}"
    second = "<tool_call>\n<function=now>\n</function>\n</tool_call>"
    if name == "seed_oss":
        second = second.replace("tool_call>", "seed:tool_call>")
    return f"{calls(name, PARIS)}\n{second}"


EACH = pytest.mark.parametrize("name", sorted(TOOL_FORMATS))
# With the marks as special tokens, and as text.
BOTH = pytest.mark.parametrize("special", [True, False], ids=["tokens", "text"])


def grammar(name: str, matcher: Matcher, thinks: str | None = None, **options: Any) -> str:
    style = REASONING_FORMATS[thinks] if thinks else None
    formats = Formats(TOOL_FORMATS[name], style)
    return tool_grammar(formats, options.pop("tools", TOOLS), matcher.tokens(formats), **options)


@BOTH
@EACH
def test_a_required_call_is_a_call_that_the_reader_reads(name: str, special: bool) -> None:
    matcher = Matcher(special=special)
    source = grammar(name, matcher)
    text = calls(name, PARIS)
    assert matcher.accepts(source, text)
    reading, meaning = machine(name), Meaning()
    for event in reading.feed(text) + reading.close():
        meaning.add(event)
    assert meaning.content == ""
    assert meaning.calls == [("get_weather", PARIS)]


@BOTH
@EACH
def test_a_required_call_refuses_text_and_arguments_that_do_not_fit(
    name: str, special: bool
) -> None:
    matcher = Matcher(special=special)
    source = grammar(name, matcher)
    for text in ("", "Hello", calls(name, BAD), calls(name, PARIS).replace("weather", "wealth")):
        assert not matcher.accepts(source, text), text
    assert not matcher.accepts(source, calls(name, PARIS) + "Bye")


@BOTH
@pytest.mark.parametrize("name", sorted(set(TOOL_FORMATS) - {"harmony", "llama3"}))
def test_several_calls_only_where_they_are_wanted(name: str, special: bool) -> None:
    matcher = Matcher(special=special)
    text = several(name)
    assert matcher.accepts(grammar(name, matcher), text)
    assert not matcher.accepts(grammar(name, matcher, parallel=False), text)
    reading = machine(name)
    reading.feed(text)
    assert reading.calls == 2


@pytest.mark.parametrize("name", sorted(TOOL_FORMATS))
def test_a_named_function_is_the_only_one(name: str) -> None:
    matcher = Matcher(special=True)
    source = grammar(name, matcher, tools=[NOW])
    assert not matcher.accepts(source, calls(name, PARIS))
    assert matcher.accepts(source, calls(name, "{}").replace("get_weather", "now"))


THINKERS = [
    ("hermes", "think", "<think>\nI <b>.\n</think>\n\n"),
    ("qwen3_coder", "think", "<think>\nI <b>.\n</think>\n\n"),
    ("deepseek_v3", "think", "<think>\nI <b>.\n</think>\n\n"),
    ("glm", "think", "<think>I <b>.</think>\n"),
    ("kimi_k2", "think", "<think>I <b>.</think>"),
    ("seed_oss", "seed", "<seed:think>I <b>.</seed:think>\n"),
    ("tool_call_list", "granite", "<think>I <b>.</think>\n"),
    ("tool_call_list", "granite32", "Here is my thought process:\nI.\nHere is my response:\n"),
    ("mistral_v11", "mistral", "[THINK]I [b].[/THINK]"),
    ("json", "think", "<think>\n{\n</think>\n\n"),
    (
        "harmony",
        "harmony",
        "<|channel|>analysis<|message|>I <b>.<|end|><|start|>assistant",
    ),
]


@BOTH
@pytest.mark.parametrize(("name", "thinks", "thought"), THINKERS)
def test_a_model_may_reason_before_a_required_call(
    name: str, thinks: str, thought: str, special: bool
) -> None:
    matcher = Matcher(special=special)
    source = grammar(name, matcher, thinks)
    assert matcher.accepts(source, thought + calls(name, PARIS))
    assert matcher.accepts(source, calls(name, PARIS))
    assert not matcher.accepts(source, thought + "Hello")
    assert not matcher.accepts(source, thought)
    if name == "harmony":
        return
    opened = grammar(name, matcher, thinks, opening=Opening.INSIDE)
    rest = thought.removeprefix(REASONING_FORMATS[thinks].opening)
    assert matcher.accepts(opened, rest + calls(name, PARIS))
    assert not matcher.accepts(opened, calls(name, PARIS))
    closed = grammar(name, matcher, thinks, opening=Opening.CLOSED)
    assert matcher.accepts(closed, calls(name, PARIS))
    assert not matcher.accepts(closed, thought + calls(name, PARIS))


@BOTH
@EACH
def test_an_answer_that_may_call_is_text_or_valid_calls(name: str, special: bool) -> None:
    matcher = Matcher(special=special)
    source = grammar(name, matcher, required=False)
    final = "<|channel|>final<|message|>" if name == "harmony" else ""
    assert matcher.accepts(source, final + "Hello < you.\n")
    assert matcher.accepts(source, calls(name, PARIS))
    assert not matcher.accepts(source, calls(name, BAD))
    if name not in ("harmony", "llama3", "json"):
        assert matcher.accepts(source, "I look.\n" + calls(name, PARIS))
        assert not matcher.accepts(source, "I look.\n" + calls(name, BAD))


@BOTH
@pytest.mark.parametrize(("name", "thinks", "thought"), THINKERS)
def test_a_model_may_reason_before_it_may_call(
    name: str, thinks: str, thought: str, special: bool
) -> None:
    matcher = Matcher(special=special)
    source = grammar(name, matcher, thinks, required=False)
    final = "<|channel|>final<|message|>" if name == "harmony" else ""
    for before in (thought, ""):
        assert matcher.accepts(source, before + calls(name, PARIS))
        assert matcher.accepts(source, before + final + "Hello.")
        assert not matcher.accepts(source, before + calls(name, BAD))


def test_a_schema_is_enforced_as_far_as_it_can_be_unless_it_is_strict() -> None:
    matcher = Matcher(special=True)
    odd = {"type": "object", "properties": {"a": {"type": "string", "format": "odd"}}}
    loose = grammar("hermes", matcher, tools=[OfferedTool("get_weather", odd)])
    assert matcher.accepts(loose, calls("hermes", '{"a": "b"}'))
    strict = grammar("hermes", matcher, tools=[OfferedTool("get_weather", odd, strict=True)])
    assert "odd" in matcher.error(strict)


def test_references_within_the_schema_of_an_xml_parameter_are_found() -> None:
    matcher = Matcher(special=True)
    schema = {
        "$defs": {"n": {"type": "integer"}},
        "properties": {"a": {"$ref": "#/$defs/n"}},
        "required": ["a"],
    }
    source = grammar(
        "qwen3_coder", matcher, tools=[OfferedTool("get_weather", schema, strict=True)]
    )
    assert matcher.accepts(source, calls("qwen3_coder", '{"a": 5}'))
    assert not matcher.accepts(source, calls("qwen3_coder", '{"a": "x"}'))


def test_a_model_without_a_format_has_no_grammar() -> None:
    with pytest.raises(ValueError, match="no format"):
        tool_grammar(Formats(), TOOLS, {})


@BOTH
@EACH
@pytest.mark.parametrize("thinks", [None, "think"])
def test_what_is_no_call_may_have_a_form_of_its_own(
    name: str, special: bool, thinks: str | None
) -> None:
    if name == "harmony":
        thinks = thinks and "harmony"
    matcher = Matcher(special=special)
    if not tells_calls_apart(Formats(TOOL_FORMATS[name])):
        assert name in ("json", "llama3")
        return
    form = Constraint("json", {"type": "object", "properties": {"a": {"type": "integer"}}})
    source = grammar(name, matcher, thinks, required=False, otherwise=form)
    final = "<|channel|>final <|constrain|>json<|message|>" if name == "harmony" else ""
    assert matcher.accepts(source, calls(name, PARIS))
    assert matcher.accepts(source, final + '{"a": 1}')
    assert not matcher.accepts(source, final + '{"a": "x"}')
    assert not matcher.accepts(source, final + "text")
    assert not matcher.accepts(source, "")
    rules = Constraint("grammar", 'start: "yes" | "no"')
    source = grammar(name, matcher, thinks, required=False, otherwise=rules)
    final = "<|channel|>final<|message|>" if name == "harmony" else ""
    assert matcher.accepts(source, calls(name, PARIS))
    assert matcher.accepts(source, final + "no")
    assert not matcher.accepts(source, final + "maybe")
