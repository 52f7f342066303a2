"""What an output machine says: text, and the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sluice_gateway.output.logprobs import TokenLogprob

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
class Finished:
    """The last event of a choice.

    ``by_stop_string``: the text ended it, so the worker does not know of the end.
    """

    reason: FinishReason
    by_stop_string: bool = False


Event = TextDelta | Finished
