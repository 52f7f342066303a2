"""DeepSeek's calls.

All are between marks "tool calls begin" and "tool calls end", each between "tool call begin" and
"tool call end". V3 and R1 write in it "function", the separator, the name, a line end, and the
arguments fenced as ``json``; V3.1 writes the name, the separator, and the bare arguments.
"""

from __future__ import annotations

from sluice_gateway.output.formats.parse import NAME_MAX, Parse
from sluice_gateway.output.formats.reader import Steps
from sluice_gateway.output.formats.sections import Section, section


def _mark(name: str) -> str:
    return f"<\N{FULLWIDTH VERTICAL LINE}{name}\N{FULLWIDTH VERTICAL LINE}>"


CALLS_BEGIN = _mark("tool▁calls▁begin")
CALLS_END = _mark("tool▁calls▁end")
CALL_BEGIN = _mark("tool▁call▁begin")
CALL_END = _mark("tool▁call▁end")
SEPARATOR = _mark("tool▁sep")
FENCE = "```"


def _head(parse: Parse) -> Steps[tuple[str, str]]:
    reader = parse.reader
    head = yield from reader.upto(SEPARATOR, NAME_MAX + 2)
    if head is None:
        return "", ""
    yield from reader.spaces()
    name = head.strip()
    if name == "function" and (yield from reader.peek()) != "{":
        name = yield from reader.word(NAME_MAX)
        yield from reader.spaces()
        yield from reader.match(f"{FENCE}json")
        yield from reader.spaces()
    return name, ""


#: Reads both dialects.
deepseek = section(Section(CALLS_BEGIN, CALLS_END, CALL_BEGIN, CALL_END, FENCE), _head)
