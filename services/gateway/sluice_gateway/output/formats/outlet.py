"""Where a format's reader puts what it has understood: becomes the events of one choice."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from sluice_gateway.output.formats.events import (
    AnswerEvent,
    ContentDelta,
    ReasoningDelta,
    ToolArguments,
    ToolCallStart,
)
from sluice_gateway.output.formats.reader import SPACE, Reader

#: Makes the id of a call; it is given the id that the model wrote itself, or "".
NewId = Callable[[str], str]


class Outlet:
    """Makes events, and keeps the whitespace around markup out of them.

    Whitespace waits until text follows it. Beside markup it belongs to the markup: it is dropped,
    and text that goes on after a call goes on in a new line. An answer without markup comes out
    to the character.
    """

    __slots__ = (
        "_after_markup",
        "_events",
        "_ids",
        "_new_id",
        "_reader",
        "_said",
        "_space",
        "_thinking",
        "_thought",
        "calls",
    )

    def __init__(self, reader: Reader, new_id: NewId) -> None:
        self._reader = reader
        self._new_id = new_id
        self._events: list[AnswerEvent] = []
        self._space: list[str] = []
        self._said = False  # content has been told,
        self._thought = False  # reasoning has,
        self._thinking = False  # and it was the last of both
        self._after_markup = False  # since then there was nothing but markup
        self._ids: set[str] = set()
        self.calls = 0

    def drain(self) -> list[AnswerEvent]:
        """The events since the last call, those of a kind that follow each other as one."""
        events, self._events = self._events, []
        return _merged(events) if len(events) > 1 else events

    def content(self, text: str) -> None:
        """More of what the model says, taken just now."""
        shown, end = self._settle(text, self._said)
        if shown:
            self._said, self._thinking = True, False
            self._events.append(ContentDelta(shown, end))

    def reasoning(self, text: str) -> None:
        """More of what the model thinks, taken just now."""
        shown, end = self._settle(text, self._thought)
        if shown:
            self._thought = self._thinking = True
            self._events.append(ReasoningDelta(shown, end))

    def markup(self) -> None:
        """Markup was taken."""
        self._space.clear()
        self._after_markup = True

    def start_call(self, name: str, model_id: str = "") -> None:
        """A call begins, and what is on the tape was its beginning."""
        self._reader.forget()
        self.markup()
        call_id = self._new_id(model_id)
        if call_id in self._ids:  # a model that repeats itself
            call_id = self._new_id("")
        self._ids.add(call_id)
        self._events.append(ToolCallStart(self.calls, call_id, name, self._reader.position))
        self.calls += 1

    def arguments(self, text: str) -> None:
        """More of the last call's arguments."""
        if text:
            self._events.append(ToolArguments(self.calls - 1, text, self._reader.position))

    def finish(self) -> None:
        """The text has ended: whitespace that waits is content, unless markup came before it."""
        if self._space and not (self._after_markup or self._thinking):
            self._events.append(ContentDelta("".join(self._space), self._reader.position))
        self._space.clear()

    def _settle(self, text: str, goes_on: bool) -> tuple[str, int]:
        """The text to tell now, with what waited before it, and where it ends."""
        shown = text.rstrip(SPACE)
        waits = text[len(shown) :]
        if not shown:
            self._space.append(waits)
            return "", 0
        if self._after_markup:
            shown = ("\n" if goes_on else "") + shown.lstrip(SPACE)
        elif self._space:
            shown = "".join(self._space) + shown
        self._after_markup = False
        self._space = [waits] if waits else []
        return shown, self._reader.position - len(waits)


def _merged(events: list[AnswerEvent]) -> list[AnswerEvent]:
    found: list[AnswerEvent] = []
    for _, same in groupby(events, type):
        run = list(same)
        last = run[-1]
        if isinstance(last, ToolCallStart):
            found += run
            continue
        # A call's start is always between the arguments of two calls.
        last.text = "".join([event.text for event in run if not isinstance(event, ToolCallStart)])
        found.append(last)
    return found
