"""How an answer is read, and what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sluice_gateway.output.formats import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    AnswerEvent,
    AnswerMachine,
    ContentDelta,
    Formats,
    Opening,
    ReasoningDelta,
    ToolArguments,
    ToolCallStart,
)

TOOLS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "units": {"type": ["string", "null"]},
            "options": {"type": "object"},
        },
        "required": ["city"],
    },
    "now": {"type": "object", "properties": {}},
}


@dataclass
class Meaning:
    """An answer, put together from its events."""

    content: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    order: str = ""

    def add(self, event: AnswerEvent) -> None:
        letter = ""
        if isinstance(event, ContentDelta):
            assert event.text
            self.content += event.text
            letter = "c"
        elif isinstance(event, ReasoningDelta):
            assert event.text
            self.reasoning += event.text
            letter = "r"
        elif isinstance(event, ToolCallStart):
            assert event.index == len(self.calls)
            self.calls.append((event.name, ""))
            self.ids.append(event.id)
            letter = "t"
        elif isinstance(event, ToolArguments):
            assert event.index == len(self.calls) - 1
            assert event.text
            name, text = self.calls[-1]
            self.calls[-1] = (name, text + event.text)
        if letter and not self.order.endswith(letter):
            self.order += letter


def machine(
    tools: str | None,
    reasoning: str | None = None,
    opening: Opening = Opening.OPEN,
    offered: dict[str, dict[str, Any]] | None = TOOLS,
) -> AnswerMachine:
    formats = Formats(
        TOOL_FORMATS[tools] if tools else None, REASONING_FORMATS[reasoning] if reasoning else None
    )
    return AnswerMachine(formats, tools=offered, opening=opening)


@dataclass(frozen=True)
class Transcript:
    """``text`` as a model wrote it in these formats."""

    name: str
    text: str
    calls: tuple[tuple[str, str], ...] = ()
    content: str = ""
    reasoning: str = ""
    tools: str | None = None
    thinks: str | None = None
    opening: Opening = Opening.OPEN
    order: str | None = None

    def machine(self) -> AnswerMachine:
        return machine(self.tools, self.thinks, self.opening)

    def read(self, pieces: list[str], *, truncated: bool = False) -> Meaning:
        reading, meaning = self.machine(), Meaning()
        for piece in pieces:
            for event in reading.feed(piece):
                meaning.add(event)
        for event in reading.close(truncated):
            meaning.add(event)
        assert reading.calls == len(meaning.calls)
        return meaning
