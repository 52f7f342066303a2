"""Reasoning between two marks at the beginning of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sluice_gateway.output.formats.parse import Parse, Read
from sluice_gateway.output.formats.reader import SPACE, Marks, Steps

#: What most templates call the reasoning of a message.
REASONING = "reasoning_content"


class Opening(Enum):
    """What the prompt has said of reasoning at its end."""

    INSIDE = "inside"  # it has opened it
    OPEN = "open"  # nothing: the model may reason, or not
    CLOSED = "closed"  # it has closed it again: the model is not to reason


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a family of models writes reasoning.

    ``inside``: an answer begins inside of it, though the prompt does not open it. ``read``: reads
    whole answers, where reasoning is not between two marks at the beginning. ``answer``: marks
    that may stand around what follows it. ``clues``: a template that has all of these is of this
    family; where there are none, one of the marks will do. ``key``: what the template calls the
    reasoning of a message.
    """

    name: str
    opening: str
    closing: str
    inside: bool = False
    read: Read | None = None
    answer: tuple[str, str] | None = None
    clues: tuple[str, ...] = ()
    key: str = REASONING

    def state(self, prompt: str, continued: str | None = None) -> Opening:
        """What the end of a prompt says.

        ``continued``: the text of the assistant's message that is to be continued, if one is.
        """
        if continued is not None:
            opened = continued.rfind(self.opening)
            if opened >= 0:
                return (
                    Opening.INSIDE if continued.find(self.closing, opened) < 0 else Opening.CLOSED
                )
            return Opening.CLOSED if continued.strip() else self.state(prompt)
        end = prompt[-256:].rstrip(SPACE)
        if end.endswith(self.opening):
            return Opening.INSIDE
        if end.endswith(self.closing):
            return Opening.CLOSED
        return Opening.INSIDE if self.inside else Opening.OPEN


def read_reasoning(parse: Parse, style: ReasoningFormat, opening: Opening) -> Steps[None]:
    """Read reasoning if there is some. A model may open it again that the prompt has opened."""
    reader, outlet = parse.reader, parse.outlet
    reader.record()
    yield from reader.spaces()
    opened = yield from reader.match(style.opening)
    if not opened and opening is not Opening.INSIDE:
        parse.give_back()
        return
    reader.forget()
    outlet.markup()
    yield from reader.until(Marks((style.closing,)), outlet.reasoning)
    outlet.markup()
    if style.answer is not None and (yield from parse.skip(style.answer[0])):
        parse.answer_end = style.answer[1]
