"""gpt-oss's harmony: an answer is several messages, each in a channel and to someone.

``<|channel|>analysis<|message|>`` is reasoning, ``final`` is content, and so is ``commentary``
unless its header has ``to=functions.NAME``: then it is a call, with JSON for arguments. The
recipient may also stand before the channel. The prompt has ended with ``<|start|>assistant``.
"""

from __future__ import annotations

import re

from sluice_gateway.output.formats.parse import Parse
from sluice_gateway.output.formats.reader import Marks, Sink, Steps

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
END, CALL, RETURN = "<|end|>", "<|call|>", "<|return|>"
HEADER_MAX = 256

_HEADERS = Marks((START, CHANNEL))
_BODY_ENDS = Marks((END, CALL, RETURN, START))
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"to=(?:functions\.)?([A-Za-z0-9_-]+)")


def harmony(parse: Parse) -> Steps[None]:
    """Read the messages of an answer."""
    reader = parse.reader
    mark: str | None = None
    reader.record()
    yield from reader.spaces()
    if (yield from reader.match("to=")):
        mark = "to="
    while True:
        if mark is None:
            parse.give_back()
            mark = yield from parse.rest(_HEADERS)
            if mark is None:
                return
            reader.record(mark)
        header = yield from reader.upto(MESSAGE, HEADER_MAX)
        if header is None:
            parse.give_back(marked=True)
            mark = None
            continue
        reader.forget()
        mark = yield from _message(parse, mark + header)


def _message(parse: Parse, header: str) -> Steps[str | None]:
    """The body of a message; what the next header begins with, if it has begun already."""
    reader, outlet = parse.reader, parse.outlet
    outlet.markup()
    recipient = _RECIPIENT.search(header)
    channel = _CHANNEL.search(header)
    name = recipient[1] if recipient else ""
    sink: Sink = outlet.reasoning if channel and channel[1] == "analysis" else outlet.content
    if name in parse.tools or (name and parse.tools and "to=functions." in header):
        outlet.start_call(name)
        sink = outlet.arguments
    before = reader.position
    mark = yield from reader.until(_BODY_ENDS, sink)
    if mark is None:
        return None
    if sink == outlet.arguments and reader.position == before + len(mark):
        outlet.arguments("{}")
    outlet.markup()
    if mark == START:
        reader.record(mark)
        return mark
    return None
