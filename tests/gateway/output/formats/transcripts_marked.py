"""Answers of the families that were added from their models' own templates."""

from __future__ import annotations

import json
from typing import Any

from tests.gateway.output.formats.reading import Transcript

PARIS = '{"city": "Paris"}'
TRICKY = r'{"city": "a \"}]</tool_call>{ \\", "options": {"x": [1, {"y": "\u00e9{"}]}}'


def kimi(*calls: tuple[str, str]) -> str:
    """A section of Kimi K2's calls, each as name and arguments."""
    body = "".join(
        f"<|tool_call_begin|>functions.{name}:{number}<|tool_call_argument_begin|>{arguments}"
        "<|tool_call_end|>"
        for number, (name, arguments) in enumerate(calls)
    )
    return f"<|tool_calls_section_begin|>{body}<|tool_calls_section_end|>"


def glm_pair(key: str, value: Any) -> str:
    """A parameter as GLM writes it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>"


GRANITE = [
    Transcript(
        "think and respond",
        "<think>\nI <response>.\n</think>\n<response>\nHello </respons\n</response>\n",
        content="Hello </respons",
        reasoning="I <response>.",
        order="rc",
    ),
    Transcript(
        "respond without an end",
        "<think>Hm.</think><response>Hello. \n",
        content="Hello. \n",
        reasoning="Hm.",
    ),
    Transcript(
        "say more behind the answer",
        "<think>Hm.</think> <response>Hello.</response> Bye.",
        content="Hello.\nBye.",
        reasoning="Hm.",
    ),
    Transcript(
        "think and say without marks",
        "<think>Hm.</think>\nHello </response>",
        content="Hello </response>",
        reasoning="Hm.",
    ),
    Transcript("no thought", "<response>x</response>", content="<response>x</response>"),
    Transcript(
        "call in the response",
        '<think>Hm.</think><response><|tool_call|>[{"name": "get_weather", '
        f'"arguments": {PARIS}}}]</response>',
        (("get_weather", PARIS),),
        reasoning="Hm.",
    ),
]
GRANITE_32 = [
    Transcript(
        "think and respond",
        "Here is my thought process:\n\nI see.\n\nHere is my response:\n\nHello. \n",
        content="Hello. \n",
        reasoning="I see.",
        order="rc",
    ),
    Transcript("no thought", "Here is my thought: x", content="Here is my thought: x"),
]
TOOL_CALL_LIST = [
    Transcript(
        "a list without an end",
        f'<|tool_call|>[{{"name": "get_weather", "arguments": {TRICKY}}}, '
        '{"name": "now", "arguments": {}}]',
        (("get_weather", TRICKY), ("now", "{}")),
    ),
    Transcript(
        "a list with an end",
        f'Wait.<|tool_call|>[{{"name": "get_weather", "arguments": {PARIS}}}]<|/tool_call|>\n',
        (("get_weather", PARIS),),
        content="Wait.",
    ),
    Transcript(
        "Granite 3.1's mark",
        f'<tool_call>[{{"name": "get_weather", "arguments": {PARIS}}}]',
        (("get_weather", PARIS),),
    ),
    Transcript("no call", "<|tool_call|> or <tool_call>", content="<|tool_call|> or <tool_call>"),
]
FUNCTOOLS = [
    Transcript(
        "a list",
        f'functools[{{"name": "get_weather", "arguments": {TRICKY}}}, {{"name": "now"}}]',
        (("get_weather", TRICKY), ("now", "{}")),
    ),
    Transcript("a word", "Python's functools is", content="Python's functools is"),
]
NEMOTRON = [
    Transcript(
        "think and call",
        f'<think>\nHm.\n</think>\n\n<TOOLCALL>[{{"name": "get_weather", "arguments": {PARIS}}}, '
        '{"name": "now", "arguments": {}}]</TOOLCALL>',
        (("get_weather", PARIS), ("now", "{}")),
        reasoning="Hm.",
    ),
    Transcript(
        "arguments as a string",
        '<TOOLCALL>[{"name": "now", "arguments": "{}"}]</TOOLCALL>Done',
        (("now", "{}"),),
        content="Done",
    ),
]
SEED = [
    Transcript(
        "think and call",
        "<seed:think>Hm.</seed:think>\nLook:\n<seed:tool_call>\n<function=get_weather>\n"
        "<parameter=city>Rome</parameter>\n<parameter=days>3</parameter>\n</function>\n"
        "</seed:tool_call>",
        (("get_weather", '{"city": "Rome", "days": 3}'),),
        content="Look:",
        reasoning="Hm.",
    ),
    Transcript(
        "two calls",
        "<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>\n"
        "<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>",
        (("now", "{}"), ("now", "{}")),
    ),
    Transcript("no call", "<seed:tool_call>x", content="<seed:tool_call>x"),
]
ODD = ' A "b"\n'
GLM = [
    Transcript(
        "each type",
        "\n<think>Hm.</think>\nLook:\n<tool_call>get_weather\n"
        f"{glm_pair('city', ODD)}\n{glm_pair('days', 3)}\n"
        f"{glm_pair('options', {'a': [1]})}\n{glm_pair('units', None)}\n</tool_call>",
        (
            (
                "get_weather",
                '{"city": " A \\"b\\"\\n", "days": 3, "options": {"a": [1]}, "units": null}',
            ),
        ),
        content="Look:",
        reasoning="Hm.",
        order="rct",
    ),
    Transcript(
        "without line ends",
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Rome</arg_value></tool_call>"
        "<tool_call>now</tool_call>Done",
        (("get_weather", '{"city": "Rome"}'), ("now", "{}")),
        content="Done",
    ),
    Transcript(
        "a key without a value",
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n</tool_call>",
        (("get_weather", "{}"),),
    ),
    Transcript(
        "no call",
        "<tool_call> a b <arg_key> <tool_call>now",
        content="<tool_call> a b <arg_key> <tool_call>now",
    ),
]
KIMI = [
    Transcript(
        "think and call",
        "<think>Hm.</think>Look:" + kimi(("get_weather", TRICKY), ("now", "{}")),
        (("get_weather", TRICKY), ("now", "{}")),
        content="Look:",
        reasoning="Hm.",
        order="rct",
    ),
    Transcript(
        "with whitespace, without prefix and number",
        "<|tool_calls_section_begin|>\n<|tool_call_begin|> now\n<|tool_call_argument_begin|>\n"
        "{}\n<|tool_call_end|>\n<|tool_calls_section_end|>\n",
        (("now", "{}"),),
    ),
    Transcript(
        "no call",
        "<|tool_call_begin|>a b:0<|tool_call_argument_begin|>{}",
        content="<|tool_call_begin|>a b:0<|tool_call_argument_begin|>{}",
    ),
    Transcript(
        "not JSON",
        kimi(("now", "{a=1}")) + "End",
        (("now", "{a=1}"),),
        content="End",
    ),
]
