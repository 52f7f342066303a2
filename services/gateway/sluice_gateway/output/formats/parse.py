"""What the readers of all formats share while they read one answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sluice_gateway.output.formats.outlet import Outlet
from sluice_gateway.output.formats.reader import NO_MARKS, Marks, Reader, Steps

#: Characters of a tool's name, as OpenAI bounds it.
NAME_MAX = 64
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

#: The tools that the request offers: the JSON Schema of each one's parameters by name.
Tools = Mapping[str, Mapping[str, Any]]


class Parse:
    """One answer that is being read."""

    __slots__ = ("answer_end", "outlet", "reader", "tools", "truncated")

    def __init__(self, reader: Reader, outlet: Outlet, tools: Tools) -> None:
        self.reader = reader
        self.outlet = outlet
        self.tools = tools
        self.truncated = False  # the text ended, but the model had not
        self.answer_end = ""  # a mark that closes the answer, and is none of its text

    def is_name(self, name: str) -> bool:
        """Whether a tool may have this name. Not all that models write are names of tools."""
        return _NAME.fullmatch(name) is not None

    def start(self, name: str, model_id: str = "") -> None:
        """A call of ``name`` begins."""
        self.outlet.start_call(name, model_id)

    def give_back(self, *, marked: bool = False) -> None:
        """What is on the tape was no call: it is content.

        ``marked``: it begins with a mark of its own, so if the answer was cut off within it, it
        was a call that nobody can use, and nothing that anybody should read.
        """
        text = self.reader.rewind()
        if marked and self.truncated:
            self.reader.discard()
            self.outlet.markup()
        elif text:
            self.outlet.content(text)

    def skip(self, *literals: str) -> Steps[bool]:
        """Take the first literal that comes next, with the whitespace before it, as markup.

        False: none of them comes, and the whitespace is content.
        """
        reader = self.reader
        reader.record()
        yield from reader.spaces()
        for literal in literals:
            if (yield from reader.match(literal)):
                reader.forget()
                return True
        self.give_back()
        return False

    def rest(self, marks: Marks = NO_MARKS) -> Steps[str | None]:
        """Content, up to a mark. The whole rest of the answer if there is none."""
        both = Marks((*marks.strings, self.answer_end)) if self.answer_end else marks
        while True:
            found = yield from self.reader.until(both, self.outlet.content)
            if found is None or found != self.answer_end:
                return found
            self.outlet.markup()

    def broken_arguments(self, marks: Marks = NO_MARKS) -> Steps[None]:
        """Arguments which are not JSON, up to a mark: the client sees what the model wrote."""
        yield from self.reader.until(marks, self.outlet.arguments)


#: Reads content and calls, to the end of the text.
Read = Callable[[Parse], Steps[None]]
