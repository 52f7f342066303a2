"""Sans-I/O machines from token ids to events. No file here reads a clock or a socket."""

from sluice_gateway.output.events import Event, Finished, FinishReason, TextDelta
from sluice_gateway.output.logprobs import TokenLogprob, TokenScore, TopLogprob
from sluice_gateway.output.machine import OutputMachine

__all__ = [
    "Event",
    "FinishReason",
    "Finished",
    "OutputMachine",
    "TextDelta",
    "TokenLogprob",
    "TokenScore",
    "TopLogprob",
]
