"""What the text of an answer turns out to be: reasoning, content, calls of tools.

``end`` in each event is how many characters of the answer's text are told once it has been said,
its markup included. So whoever knows where each token begins can tell which event it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass


# Not frozen, like TextDelta: these are made for each token.
@dataclass(slots=True)
class ReasoningDelta:
    """Text that the model thinks."""

    text: str
    end: int = 0


@dataclass(slots=True)
class ContentDelta:
    """Text that the model says."""

    text: str
    end: int = 0


@dataclass(slots=True)
class ToolCallStart:
    """A call begins. ``index`` counts the calls of a choice from 0."""

    index: int
    id: str
    name: str
    end: int = 0


@dataclass(slots=True)
class ToolArguments:
    """More of the JSON of a call's arguments."""

    index: int
    text: str
    end: int = 0


AnswerEvent = ReasoningDelta | ContentDelta | ToolCallStart | ToolArguments
