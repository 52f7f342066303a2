"""What an output machine says: text, reasoning, calls, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sluice_gateway.output.logprobs import EncodedLogprobs, TokenLogprob

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


# Not frozen: a frozen dataclass pays for object.__setattr__ on every token.
@dataclass(slots=True)
class TextDelta:
    """Text that may be shown.

    ``token_ids`` is filled only for a request that asked for them, ``logprobs`` only for one
    that asked for those. ``text`` is empty when tokens have to be told whose text is hidden.
    """

    text: str
    token_ids: Sequence[int] = ()
    logprobs: list[TokenLogprob] | None = None


@dataclass(slots=True)
class PromptDelta:
    """The prompt, told as the beginning of a completion, with its log-probabilities."""

    text: str
    logprobs: EncodedLogprobs
    token_ids: Sequence[int] = ()


@dataclass(slots=True)
class ReasoningDelta:
    """Text that the model thinks. ``token_ids``: see TextDelta; so in all of these."""

    text: str
    token_ids: Sequence[int] = ()


@dataclass(slots=True)
class ToolCallStart:
    """A call begins. ``index`` counts the calls of a choice from 0."""

    index: int
    id: str
    name: str
    token_ids: Sequence[int] = ()


@dataclass(slots=True)
class ToolArguments:
    """More of the JSON of a call's arguments."""

    index: int
    text: str
    token_ids: Sequence[int] = ()


@dataclass(slots=True)
class Finished:
    """The last event of a choice.

    ``by_stop_string``: the text ended it, so the worker does not know of the end.
    """

    reason: FinishReason
    by_stop_string: bool = False


#: All that is told before the end.
Delta = TextDelta | PromptDelta | ReasoningDelta | ToolCallStart | ToolArguments

Event = Delta | Finished
