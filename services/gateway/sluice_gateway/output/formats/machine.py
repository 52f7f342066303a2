"""One machine per choice: from text to reasoning, content and calls."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sluice_gateway.output.formats.call_ids import nine_id, random_id
from sluice_gateway.output.formats.events import AnswerEvent
from sluice_gateway.output.formats.outlet import NewId, Outlet
from sluice_gateway.output.formats.parse import Parse, Tools
from sluice_gateway.output.formats.reader import Reader, Steps
from sluice_gateway.output.formats.reasoning import Opening, read_reasoning
from sluice_gateway.output.formats.table import Formats

_NO_TOOLS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


class AnswerMachine:
    """Feed it an answer's text in any pieces, then close it.

    What it says depends on the text alone, not on the pieces. It raises nothing, whatever the
    model wrote: what is no call is content, and a call whose arguments are not JSON has the
    arguments that the model wrote. Its work is linear in the text.
    """

    __slots__ = ("_outlet", "_parse", "_reader", "_steps")

    def __init__(
        self,
        formats: Formats,
        *,
        tools: Tools | None = None,
        opening: Opening = Opening.OPEN,
        new_id: NewId | None = None,
    ) -> None:
        """Begin an answer.

        ``tools``: those that may be called; without any the answer has no calls. ``opening``:
        see ReasoningFormat.state. ``new_id``: makes ids of calls, for tests.
        """
        if new_id is None:
            nine = formats.tools is not None and formats.tools.ids == "nine"
            new_id = nine_id if nine else random_id
        self._reader = Reader()
        self._outlet = Outlet(self._reader, new_id)
        self._parse = Parse(self._reader, self._outlet, tools or _NO_TOOLS)
        self._steps: Steps[None] | None = _answer(self._parse, formats, opening)
        self._step()

    @property
    def calls(self) -> int:
        """How many calls have begun."""
        return self._outlet.calls

    def feed(self, text: str) -> list[AnswerEvent]:
        """The events that this text brings."""
        self._reader.push(text)
        self._step()
        return self._outlet.drain()

    def close(self, truncated: bool = False) -> list[AnswerEvent]:
        """The last events. ``truncated``: a limit or a stop string ended it, not the model."""
        self._parse.truncated = truncated
        self._reader.end()
        self._step()
        self._outlet.finish()
        return self._outlet.drain()

    def _step(self) -> None:
        if self._steps is not None:
            try:
                next(self._steps)
            except StopIteration:
                self._steps = None


def _answer(parse: Parse, formats: Formats, opening: Opening) -> Steps[None]:
    style = formats.reasoning
    if style is not None and style.read is not None:
        yield from style.read(parse)
        return
    if style is not None:
        yield from read_reasoning(parse, style, opening)
    if parse.tools and formats.tools is not None:
        yield from formats.tools.read(parse)
    else:
        yield from parse.rest()
