"""The log-probabilities of a prompt's tokens, while a worker tells them."""

from __future__ import annotations

from collections.abc import Iterator

from sluice.worker.v1 import worker_pb2 as pb

from sluice_gateway.output import TokenScore


class PromptScores:
    """Those of all tokens of a prompt but the first, in order.

    The pieces stay packed until they are asked for: as Python objects they are ten times the size.
    """

    __slots__ = ("_expected", "_pieces", "_told")

    def __init__(self, tokens: int) -> None:
        """``tokens``: the prompt's length, at least 1."""
        self._expected = tokens - 1
        self._pieces: list[tuple[pb.PromptLogprobs, int]] = []
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
            self._pieces.append((piece, known))
            self._told += fresh

    def __iter__(self) -> Iterator[TokenScore]:
        """The scores told so far."""
        for piece, known in self._pieces:
            for number, score in enumerate(unpacked(piece)):
                if number >= known:
                    yield score


def unpacked(positions: pb.RowLogprobs | pb.PromptLogprobs) -> Iterator[TokenScore]:
    """The scores that a message has packed."""
    count = positions.top_count
    pairs = list(zip(positions.top_ids, positions.top_logprobs, strict=True))
    for number, logprob in enumerate(positions.logprobs):
        yield logprob, pairs[number * count : (number + 1) * count]
