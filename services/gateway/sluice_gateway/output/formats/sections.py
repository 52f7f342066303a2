"""Calls that stand together in a section, each between two marks: DeepSeek's, Kimi's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sluice_gateway.output.formats.parse import Parse, Read
from sluice_gateway.output.formats.reader import Marks, Steps

#: Reads a call's head, its name and the id that the model wrote, up to the arguments.
Head = Callable[[Parse], Steps[tuple[str, str]]]


@dataclass(frozen=True, slots=True)
class Section:
    """The marks of a section and of a call in it. ``fence``: what may follow the arguments."""

    begin: str
    end: str
    call_begin: str
    call_end: str
    fence: str = ""


def section(marks: Section, head: Head) -> Read:
    """Reads content and sections. Some models leave the section's own marks out."""
    opens = Marks((marks.begin, marks.call_begin))

    def read(parse: Parse) -> Steps[None]:
        reader = parse.reader
        while (mark := (yield from parse.rest(opens))) is not None:
            reader.record(mark)
            if mark == marks.begin:
                yield from reader.spaces()
                if not (yield from reader.match(marks.call_begin)):
                    parse.give_back(marked=True)
                    continue
            yield from _calls(parse, marks, head)

    return read


def _calls(parse: Parse, marks: Section, head: Head) -> Steps[None]:
    """Calls, from behind the first one's mark. The tape runs; afterwards it has ended."""
    reader = parse.reader
    while (yield from _call(parse, marks, head)):
        # Another call may follow.
        reader.record()
        yield from reader.spaces()
        if not (yield from reader.match(marks.call_begin)):
            parse.give_back()
            yield from parse.skip(marks.end)
            return


def _call(parse: Parse, marks: Section, head: Head) -> Steps[bool]:
    """One call, from behind its mark; False: it was none."""
    reader = parse.reader
    name, model_id = yield from head(parse)
    if not parse.is_name(name) or (yield from reader.peek()) != "{":
        parse.give_back(marked=True)
        return False
    parse.start(name, model_id)
    if not (yield from reader.value(parse.outlet.arguments)):
        yield from parse.broken_arguments(Marks((marks.call_end,)))
        return True
    if marks.fence:
        yield from parse.skip(marks.fence)
    yield from parse.skip(marks.call_end)
    return True
