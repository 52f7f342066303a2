"""The log-probabilities of a prompt's tokens, while a worker tells them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.output import TokenScore


class PromptScores:
    """Those of all tokens of a prompt but the first, in order; taken as they come."""

    __slots__ = ("_expected", "_fresh", "_told")

    def __init__(self, tokens: int) -> None:
        """``tokens``: the prompt's length, at least 1."""
        self._expected = tokens - 1
        self._fresh: list[TokenScore] = []
        self._told = 0

    @property
    def complete(self) -> bool:
        """Whether all have come."""
        return self._told >= self._expected

    def add(self, piece: pb.PromptLogprobs) -> None:
        """Take in a piece. What was told before, by a worker that was lost, is passed over."""
        known = self._told - (piece.position - 1)
        fresh = len(piece.logprobs) - known
        if known >= 0 and fresh > 0:
            self._fresh += islice(unpacked(piece), known, None)
            self._told += fresh

    def take(self) -> list[TokenScore]:
        """Those that have come since the last call."""
        taken, self._fresh = self._fresh, []
        return taken


def unpacked(positions: pb.RowLogprobs | pb.PromptLogprobs) -> Iterator[TokenScore]:
    """The scores that a message has packed."""
    count = positions.top_count
    pairs = list(zip(positions.top_ids, positions.top_logprobs, strict=True))
    for number, logprob in enumerate(positions.logprobs):
        yield logprob, pairs[number * count : (number + 1) * count]
