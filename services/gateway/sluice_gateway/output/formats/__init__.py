"""The formats in which models write reasoning and calls of tools, and the machine that reads them.

No file here knows of tokens: text goes in, events come out.
"""

from sluice_gateway.output.formats.call_ids import id_of_nine, numbered_ids
from sluice_gateway.output.formats.events import (
    AnswerEvent,
    ContentDelta,
    ReasoningDelta,
    ToolArguments,
    ToolCallStart,
)
from sluice_gateway.output.formats.machine import AnswerMachine
from sluice_gateway.output.formats.reasoning import Opening, ReasoningFormat
from sluice_gateway.output.formats.table import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    Formats,
    ToolFormat,
    detect,
)

__all__ = [
    "REASONING_FORMATS",
    "TOOL_FORMATS",
    "AnswerEvent",
    "AnswerMachine",
    "ContentDelta",
    "Formats",
    "Opening",
    "ReasoningDelta",
    "ReasoningFormat",
    "ToolArguments",
    "ToolCallStart",
    "ToolFormat",
    "detect",
    "id_of_nine",
    "numbered_ids",
]
