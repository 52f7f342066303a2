"""GLM's calls: the name, then an element for each parameter's name and one for its value.

``<tool_call>NAME``, then ``<arg_key>KEY</arg_key>`` and ``<arg_value>VALUE</arg_value>`` for each,
``</tool_call>``. GLM 4.5 and 4.6 put line ends between the elements.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sluice_gateway.output.formats.parse import NAME_MAX, Parse
from sluice_gateway.output.formats.reader import Marks, Steps
from sluice_gateway.output.formats.xml_values import KEY_MAX, quoted, read_value, types_of

TOOL_OPEN, TOOL_CLOSE = "<tool_call>", "</tool_call>"
KEY_OPEN, KEY_CLOSE = "<arg_key>", "</arg_key>"
VALUE_OPEN, VALUE_CLOSE = "<arg_value>", "</arg_value>"

_OPENS = Marks((TOOL_OPEN,))
_VALUE_ENDS = Marks((VALUE_CLOSE,))


def glm(parse: Parse) -> Steps[None]:
    """Read content and calls."""
    reader = parse.reader
    while (yield from parse.rest(_OPENS)) is not None:
        reader.record(TOOL_OPEN)
        yield from reader.spaces()
        name = yield from reader.word(NAME_MAX)
        yield from reader.spaces()
        if name and (yield from reader.match(TOOL_CLOSE)):
            parse.start(name)
            parse.outlet.arguments("{}")
        elif name and (yield from reader.match(KEY_OPEN)):
            parse.start(name)
            yield from _arguments(parse, parse.tools.get(name, {}))
        else:
            parse.give_back(marked=True)


def _arguments(parse: Parse, schema: Mapping[str, Any]) -> Steps[None]:
    """The parameters, from behind the first mark."""
    reader, outlet = parse.reader, parse.outlet
    between = "{"
    while True:
        key = yield from reader.upto(KEY_CLOSE, KEY_MAX)
        if key is None or not (yield from parse.skip(VALUE_OPEN)):
            break
        outlet.arguments(f"{between}{quoted(key)}: ")
        between = ", "
        if not (yield from read_value(parse, types_of(schema, key), _VALUE_ENDS, lines=False)):
            return
        if not (yield from parse.skip(KEY_OPEN)):
            break
    if parse.truncated:  # more parameters might have come
        return
    outlet.arguments("}" if between != "{" else "{}")
    yield from parse.skip(TOOL_CLOSE)
