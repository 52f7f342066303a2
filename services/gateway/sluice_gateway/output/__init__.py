"""Sans-I/O machines from token ids to events. No file here reads a clock or a socket."""

from sluice_gateway.output.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    PromptDelta,
    ReasoningDelta,
    TextDelta,
    ToolArguments,
    ToolCallStart,
)
from sluice_gateway.output.logprobs import TokenLogprob, TokenScore, TopLogprob
from sluice_gateway.output.machine import OutputMachine

__all__ = [
    "Delta",
    "Event",
    "FinishReason",
    "Finished",
    "OutputMachine",
    "PromptDelta",
    "ReasoningDelta",
    "TextDelta",
    "TokenLogprob",
    "TokenScore",
    "ToolArguments",
    "ToolCallStart",
    "TopLogprob",
]
