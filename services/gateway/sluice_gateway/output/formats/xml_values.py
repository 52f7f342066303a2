"""Values of parameters that stand as plain text between two marks, made JSON on the way.

Text streams as it comes, any other value when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sluice_gateway.output.formats.parse import Parse
from sluice_gateway.output.formats.reader import Marks, Sink, Steps

#: Characters of a parameter's name.
KEY_MAX = 256

_TEXT = frozenset({"string"})


def quoted(text: str) -> str:
    """The text as a JSON string."""
    return json.dumps(text, ensure_ascii=False)


def types_of(schema: Mapping[str, Any], key: str) -> frozenset[str]:
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


def read_value(parse: Parse, types: frozenset[str], ends: Marks, *, lines: bool) -> Steps[bool]:
    """Hand a value on as JSON, up to the mark after it; False: a limit cut it off.

    ``lines``: the markup puts a line end at either side of it.
    """
    reader, outlet = parse.reader, parse.outlet
    if types != _TEXT:
        pieces: list[str] = []
        ended = yield from reader.until(ends, pieces.append)
        if ended is None and parse.truncated:
            return False
        text = "".join(pieces)
        text = text.removeprefix("\n").removesuffix("\n") if lines else text
        outlet.arguments(_converted(text, types))
        return True
    outlet.arguments('"')
    streamed = _StreamedText(outlet.arguments, lines)
    ended = yield from reader.until(ends, streamed.feed)
    if ended is None and parse.truncated:
        return False
    outlet.arguments('"')
    return True


class _StreamedText:
    """The inside of a JSON string, without the line end that the markup puts at either side."""

    __slots__ = ("_begun", "_held", "_lines", "_sink")

    def __init__(self, sink: Sink, lines: bool) -> None:
        self._sink = sink
        self._lines = lines
        self._begun = False
        self._held = ""

    def feed(self, text: str) -> None:
        if not self._lines:
            self._sink(quoted(text)[1:-1])
            return
        if not self._begun:
            self._begun = True
            text = text.removeprefix("\n")
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        self._sink(quoted(text.removesuffix("\n"))[1:-1])


def _converted(text: str, types: frozenset[str]) -> str:
    """The value as JSON: as it is if it is JSON of one of the types, else as a string."""
    stripped = text.strip()
    try:
        value = json.loads(stripped, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # Python's names of these are what models write by mistake.
        names = {"True": "true", "False": "false", "None": "null"}
        return names.get(stripped) or quoted(text)
    if isinstance(value, str) and "string" in types:
        return quoted(text)
    return stripped


def _no_constant(name: str) -> None:
    raise ValueError(name)
