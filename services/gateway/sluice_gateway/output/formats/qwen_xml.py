"""Calls with one element for each parameter, its name in the tag: Qwen3-Coder's, Seed's.

``<tool_call>``, ``<function=NAME>``, then ``<parameter=KEY>``, the value and ``</parameter>`` for
each, ``</function>``, ``</tool_call>``. Qwen puts line ends around a value, Seed does not, and has
``<seed:tool_call>`` around it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_gateway.output.formats.parse import NAME_MAX, Parse, Read
from sluice_gateway.output.formats.reader import Marks, Steps
from sluice_gateway.output.formats.xml_values import KEY_MAX, quoted, read_value, types_of

TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"
SEED_OPEN, SEED_CLOSE = "<seed:tool_call>", "</seed:tool_call>"
FUNCTION_OPEN, FUNCTION_CLOSE = "<function=", "</function>"
PARAMETER_OPEN, PARAMETER_CLOSE = "<parameter=", "</parameter>"

_VALUE_ENDS = Marks((PARAMETER_CLOSE,))


def qwen_xml(opening: str = TOOL_OPEN, closing: str = TOOL_CLOSE) -> Read:
    """Reads content and calls. Some models leave out the ``opening``."""
    opens = Marks((opening, FUNCTION_OPEN))

    def read(parse: Parse) -> Steps[None]:
        reader = parse.reader
        while True:
            mark = yield from parse.rest(opens)
            if mark is None:
                return
            reader.record(mark)
            if mark == opening:
                yield from reader.spaces()
                if not (yield from reader.match(FUNCTION_OPEN)):
                    parse.give_back(marked=True)
                    continue
            name = yield from reader.upto(">", NAME_MAX)
            if name is None or not parse.is_name(name):
                parse.give_back(marked=True)
                continue
            parse.start(name)
            yield from _parameters(parse, parse.tools.get(name, {}), closing)

    return read


def _parameters(parse: Parse, schema: Mapping[str, Any], closing: str) -> Steps[None]:
    reader, outlet = parse.reader, parse.outlet
    between = "{"
    while (yield from parse.skip(PARAMETER_OPEN)):
        key = yield from reader.upto(">", KEY_MAX)
        if key is None:
            return
        outlet.arguments(f"{between}{quoted(key)}: ")
        between = ", "
        if not (yield from read_value(parse, types_of(schema, key), _VALUE_ENDS, lines=True)):
            return
    if parse.truncated:  # more parameters might have come
        return
    outlet.arguments("}" if between != "{" else "{}")
    yield from parse.skip(FUNCTION_CLOSE)
    yield from parse.skip(closing)
