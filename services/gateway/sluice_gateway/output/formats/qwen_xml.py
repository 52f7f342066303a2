"""Qwen3-Coder's calls: one element for each parameter, its value as plain text.

``<tool_call>``, ``<function=NAME>``, then ``<parameter=KEY>``, the value between line ends and
``</parameter>`` for each, ``</function>``, ``</tool_call>``. The arguments are made JSON on the
way: text streams as it comes, any other value when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sluice_gateway.output.formats.parse import NAME_MAX, Parse
from sluice_gateway.output.formats.reader import Marks, Sink, Steps

TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"
FUNCTION_OPEN, FUNCTION_CLOSE = "<function=", "</function>"
PARAMETER_OPEN, PARAMETER_CLOSE = "<parameter=", "</parameter>"
KEY_MAX = 256

_OPENS = Marks((TOOL_OPEN, FUNCTION_OPEN))
_VALUE_ENDS = Marks((PARAMETER_CLOSE,))


def qwen_xml(parse: Parse) -> Steps[None]:
    """Read content and calls. Some models leave out ``<tool_call>``."""
    reader = parse.reader
    while True:
        mark = yield from parse.rest(_OPENS)
        if mark is None:
            return
        reader.record(mark)
        if mark == TOOL_OPEN:
            yield from reader.spaces()
            if not (yield from reader.match(FUNCTION_OPEN)):
                parse.give_back(marked=True)
                continue
        name = yield from reader.upto(">", NAME_MAX)
        if name is None or not parse.is_name(name):
            parse.give_back(marked=True)
            continue
        parse.start(name)
        yield from _parameters(parse, parse.tools.get(name, {}))


def _parameters(parse: Parse, schema: Mapping[str, Any]) -> Steps[None]:
    reader, outlet = parse.reader, parse.outlet
    between = "{"
    while (yield from parse.skip(PARAMETER_OPEN)):
        key = yield from reader.upto(">", KEY_MAX)
        if key is None:
            return
        outlet.arguments(f"{between}{_quoted(key)}: ")
        between = ", "
        if not (yield from _value(parse, _types(schema, key))):
            return
    if parse.truncated:  # more parameters might have come
        return
    outlet.arguments("}" if between != "{" else "{}")
    yield from parse.skip(FUNCTION_CLOSE)
    yield from parse.skip(TOOL_CLOSE)


def _value(parse: Parse, types: frozenset[str]) -> Steps[bool]:
    reader, outlet = parse.reader, parse.outlet
    if types != _TEXT:
        pieces: list[str] = []
        ended = yield from reader.until(_VALUE_ENDS, pieces.append)
        if ended is None and parse.truncated:
            return False
        outlet.arguments(_converted(_stripped("".join(pieces)), types))
        return True
    outlet.arguments('"')
    text = _StreamedText(outlet.arguments)
    ended = yield from reader.until(_VALUE_ENDS, text.feed)
    if ended is None and parse.truncated:
        return False
    outlet.arguments('"')
    return True


class _StreamedText:
    """The inside of a JSON string, without the line end that the markup puts at either side."""

    __slots__ = ("_begun", "_held", "_sink")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._begun = False
        self._held = ""

    def feed(self, text: str) -> None:
        if not self._begun:
            self._begun = True
            text = text.removeprefix("\n")
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        self._sink(_quoted(text.removesuffix("\n"))[1:-1])


_TEXT = frozenset({"string"})


def _types(schema: Mapping[str, Any], key: str) -> frozenset[str]:
    """The types that a parameter may have, by its schema; empty: any. Unknown ones are text."""
    properties = schema.get("properties")
    one = properties.get(key) if isinstance(properties, Mapping) else None
    if one is None:
        return _TEXT
    named = one.get("type") if isinstance(one, Mapping) else None
    if isinstance(named, str):
        return frozenset({named})
    if isinstance(named, list):
        return frozenset(name for name in named if isinstance(name, str))
    return frozenset()


def _converted(text: str, types: frozenset[str]) -> str:
    """The value as JSON: as it is if it is JSON of one of the types, else as a string."""
    stripped = text.strip()
    try:
        value = json.loads(stripped, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # Python's names of these are what models write by mistake.
        names = {"True": "true", "False": "false", "None": "null"}
        return names.get(stripped) or _quoted(text)
    if isinstance(value, str) and "string" in types:
        return _quoted(text)
    return stripped


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _stripped(text: str) -> str:
    return text.removeprefix("\n").removesuffix("\n")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
