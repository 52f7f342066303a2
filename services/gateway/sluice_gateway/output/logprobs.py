"""Log-probabilities: from ids and numbers to entries with the tokens' bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

# OpenAI's value for "very unlikely". JSON has neither -Infinity nor NaN.
FLOOR = -9999.0


# A token's log-probability, and those of the most likely ids at its position, best first.
TokenScore = tuple[float, Sequence[tuple[int, float]]]


class TokenBytes(Protocol):
    """Knows the raw bytes of a token."""

    def token_bytes(self, token_id: int) -> bytes:
        """The token's raw bytes, which may be half a character."""


@dataclass(slots=True)
class TopLogprob:
    """One of the most likely tokens at a position."""

    raw: bytes
    logprob: float


@dataclass(slots=True)
class TokenLogprob:
    """A token's log-probability. None: the first token of a prompt, which follows nothing.

    ``offset`` is where its text begins in the text of the choice, in characters.
    """

    raw: bytes
    logprob: float | None
    top: list[TopLogprob] = field(default_factory=list)
    offset: int = 0


@dataclass(frozen=True, slots=True)
class EncodedLogprobs:
    """Log-probabilities of many tokens in the shape of completions, written as JSON.

    Each is what is between the brackets of a list. As objects they are ten times the size, and to
    write them all at once would take seconds.
    """

    tokens: str
    token_logprobs: str
    top_logprobs: str
    text_offset: str


def floored(logprob: float) -> float:
    """The value within what JSON and OpenAI's clients can read: NaN and -inf become the floor."""
    if logprob > FLOOR:
        return min(logprob, 0.0)
    return FLOOR


def entry(token_id: int, score: TokenScore, names: TokenBytes) -> TokenLogprob:
    """The entry of one generated token."""
    logprob, alternatives = score
    top = [TopLogprob(names.token_bytes(top_id), floored(value)) for top_id, value in alternatives]
    return TokenLogprob(names.token_bytes(token_id), floored(logprob), top)
