"""DeepSeek's calls.

All are between marks "tool calls begin" and "tool calls end", each between "tool call begin" and
"tool call end". V3 and R1 write in it "function", the separator, the name, a line end, and the
arguments fenced as ``json``; V3.1 writes the name, the separator, and the bare arguments.
"""

from __future__ import annotations

from sluice_gateway.output.formats.parse import NAME_MAX, Parse
from sluice_gateway.output.formats.reader import Marks, Steps


def _mark(name: str) -> str:
    return f"<\N{FULLWIDTH VERTICAL LINE}{name}\N{FULLWIDTH VERTICAL LINE}>"


CALLS_BEGIN = _mark("tool▁calls▁begin")
CALLS_END = _mark("tool▁calls▁end")
CALL_BEGIN = _mark("tool▁call▁begin")
CALL_END = _mark("tool▁call▁end")
SEPARATOR = _mark("tool▁sep")
FENCE = "```"

_OPENS = Marks((CALLS_BEGIN, CALL_BEGIN))
_CLOSES = Marks((CALL_END,))


def deepseek(parse: Parse) -> Steps[None]:
    """Read both dialects."""
    reader = parse.reader
    while True:
        mark = yield from parse.rest(_OPENS)
        if mark is None:
            return
        reader.record(mark)
        if mark == CALLS_BEGIN:
            yield from reader.spaces()
            if not (yield from reader.match(CALL_BEGIN)):
                parse.give_back(marked=True)
                continue
        while (yield from _call(parse)):
            # Another call may follow.
            reader.record()
            yield from reader.spaces()
            if not (yield from reader.match(CALL_BEGIN)):
                parse.give_back()
                yield from parse.skip(CALLS_END)
                break


def _call(parse: Parse) -> Steps[bool]:
    """One call, from behind its first mark. The tape runs."""
    reader = parse.reader
    name = yield from _name(parse)
    if not parse.is_name(name) or (yield from reader.peek()) != "{":
        parse.give_back(marked=True)
        return False
    parse.start(name)
    if not (yield from reader.value(parse.outlet.arguments)):
        yield from parse.broken_arguments(_CLOSES)
        return True
    yield from parse.skip(FENCE)
    yield from parse.skip(CALL_END)
    return True


def _name(parse: Parse) -> Steps[str]:
    reader = parse.reader
    head = yield from reader.upto(SEPARATOR, NAME_MAX + 2)
    if head is None:
        return ""
    yield from reader.spaces()
    name = head.strip()
    if name == "function" and (yield from reader.peek()) != "{":
        name = yield from reader.word(NAME_MAX)
        yield from reader.spaces()
        yield from reader.match(f"{FENCE}json")
        yield from reader.spaces()
    return name
