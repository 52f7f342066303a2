"""Byte-pair encoding by rank, which tiktoken and sentencepiece do, and its merge list."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import AnyStr


def merges_of(rank: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merge list that makes each piece of ``rank``, the lowest rank first.

    tiktoken and sentencepiece join any two neighbours whose concatenation is a piece, in the
    order of the pieces' ranks. ``tokenizers`` wants the pairs named: so here is every way to
    cut a piece in two. Of one piece's cuts, the longer left part comes first. Where two of them
    compete for a symbol, the originals take what stands further left, which no list can say;
    ``competing`` has the texts in which that may matter.
    """
    found = [
        (rank[piece], -cut, piece[:cut], piece[cut:])
        for piece in rank
        for cut in _cuts(piece, rank)
    ]
    found.sort()
    return [(left, right) for _, _, left, right in found]


def competing(pieces: Collection[AnyStr]) -> Iterator[AnyStr]:
    """Texts of three symbols whose first two make the same piece as the last two."""
    parts = frozenset(pieces)
    for piece in pieces:
        cuts = _cuts(piece, parts)
        for cut in cuts:
            # piece = x + y = y + z, with x and z of the same length
            if 2 * cut != len(piece) and piece.startswith(piece[cut:]) and len(piece) - cut in cuts:
                yield piece[:cut] + piece


def merge(symbols: Sequence[str], rank: Mapping[str, float]) -> list[str]:
    """Join neighbours until none make a piece: the lowest rank first, then the leftmost.

    The plain rule, for checks: its time grows with the square of the length.
    """
    symbols = list(symbols)
    while len(symbols) > 1:
        best = min(
            range(len(symbols) - 1),
            key=lambda place: rank.get(symbols[place] + symbols[place + 1], float("inf")),
        )
        whole = symbols[best] + symbols[best + 1]
        if whole not in rank:
            break
        symbols[best : best + 2] = [whole]
    return symbols


def _cuts(piece: AnyStr, parts: Collection[AnyStr]) -> list[int]:
    return [cut for cut in range(1, len(piece)) if piece[:cut] in parts and piece[cut:] in parts]
