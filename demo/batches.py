"""Batches: conversations as token ids, packed into rows without padding."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from demo.chatml import SEPARATOR, Segment, render
from demo.corpus import conversation, raw_text

PROMPT_SHARE = 0.1
"""The share of the tokens that the model reads, but need not write, that count in the loss."""

SHAPES = ((4, 512), (8, 256), (4, 512), (8, 256), (4, 512), (8, 256), (4, 512), (2, 1024))
"""Rows and their length, in turn: long enough for tools and their answers, some for a history."""

_RAW_SHARE = 0.03


@dataclass(frozen=True)
class Batch:
    """Token ids, and which of them count in the loss; both of shape (rows, length)."""

    ids: torch.Tensor
    counted: torch.Tensor


class Stream:
    """An endless stream of conversations as rows of tokens. The same seed gives the same stream."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        self._separator = tokenizer.token_to_id(SEPARATOR)

    def batches(self) -> Iterator[Batch]:
        """Yield batches of the given shapes in turn."""
        while True:
            for rows, length in SHAPES:
                pairs = [self._row(length) for _ in range(rows)]
                yield Batch(
                    torch.tensor([ids for ids, _ in pairs]),
                    torch.tensor([counted for _, counted in pairs]),
                )

    def _row(self, length: int) -> tuple[list[int], list[bool]]:
        """A row begins with a conversation, as a prompt does, and cuts the last one short."""
        ids: list[int] = []
        counted: list[bool] = []
        while len(ids) < length:
            for segment in self._next():
                piece = self._tokenizer.encode(segment.text).ids
                ids += piece
                counted += [segment.learned or self._rng.random() < PROMPT_SHARE for _ in piece]
        return ids[:length], counted[:length]

    def _next(self) -> list[Segment]:
        if self._rng.random() < _RAW_SHARE:
            return [Segment(raw_text(self._rng) + SEPARATOR, True)]
        return [*render(conversation(self._rng)), Segment(SEPARATOR, False)]
