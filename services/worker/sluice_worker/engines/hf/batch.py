"""What one step computes: spans of tokens, and the runner that computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

TILE = 64
"""Prompt tokens are computed in tiles that begin at multiples of this, so that a
prompt's keys and values do not depend on how its prefill was cut into steps."""


@dataclass(slots=True)
class Span:
    """Tokens of one slot, from position ``start`` on.

    ``decode`` tells generated tokens from a prompt's: a generated token is computed in
    the same way whether it comes alone, as it is generated, or with others, when a row
    is computed again. A span of a prompt is one tile. ``wants_logits`` asks for the logits after
    its last token, ``wants_all`` for those after each of them.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    decode: bool
    wants_logits: bool
    wants_all: bool = False

    @property
    def logits_count(self) -> int:
        """After how many of its tokens, the last ones, there are to be logits."""
        return len(self.tokens) if self.wants_all else int(self.wants_logits)


class Runner(Protocol):
    """Computes steps. Keeps the keys and values of every slot until it is released."""

    @property
    def name(self) -> str:
        """What kind of runner it is."""
        ...

    @property
    def vocab_size(self) -> int:
        """The width of the logits."""
        ...

    @property
    def keeps_prefixes(self) -> bool:
        """Whether ``copy_prefix`` and ``release`` with ``keep`` are possible."""
        ...

    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        """Logits after the tokens whose spans want them, in order, [those, vocab_size], float32."""

    def copy_prefix(self, source: int, target: int, tokens: int) -> bool:
        """Give ``target`` the first tokens of ``source``; False if that is not possible."""

    def release(self, slot: int, keep: int = 0) -> None:
        """Forget what a slot holds, but for its first ``keep`` tokens."""
        ...
