"""What a row's tokens so far do to its next logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sluice_worker.engines.base import SamplingParams

LARGEST = 1e30
"""No logit grows beyond it: an infinite one, also over a temperature, is none to draw by."""


class SeenTokens:
    """The distinct tokens of a row: ids, and how often each was generated.

    Kept for rows with penalties only. Amortised O(1) to add a token; logits are
    changed at the seen ids only.
    """

    def __init__(
        self, params: SamplingParams, prompt: Sequence[int], generated: Sequence[int]
    ) -> None:
        self._repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        self._places: dict[int, int] = {}
        self._ids = torch.empty(64, dtype=torch.long)
        self._counts = torch.empty(64)
        if self._repetition != 1.0:
            for token in dict.fromkeys(prompt):
                self._place(token)
        for token in generated:
            self.add(token)

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Whether the parameters have any penalty."""
        return (
            params.repetition_penalty != 1.0
            or params.presence_penalty != 0.0
            or params.frequency_penalty != 0.0
        )

    def add(self, token: int) -> None:
        """Count a generated token."""
        place = self._place(token)  # first: it may put a larger tensor in the counts' place
        self._counts[place] += 1

    def apply(self, logits: torch.Tensor) -> None:
        """Penalise ``logits`` [vocab] in place."""
        count = len(self._places)
        if not count:
            return
        ids, counts = self._ids[:count], self._counts[:count]
        seen = logits[ids]
        if self._repetition != 1.0:
            grown = (seen / self._repetition).clamp_(max=LARGEST)
            seen = torch.where(seen > 0, grown, seen * self._repetition)
        if self._frequency:
            seen = seen - counts * self._frequency
        if self._presence:
            seen = seen - (counts > 0) * self._presence
        logits[ids] = seen

    def _place(self, token: int) -> int:
        place = self._places.get(token)
        if place is None:
            place = self._places[token] = len(self._places)
            if place == len(self._ids):
                self._ids = torch.cat([self._ids, torch.empty_like(self._ids)])
                self._counts = torch.cat([self._counts, torch.empty_like(self._counts)])
            self._ids[place] = token
            self._counts[place] = 0.0
        return place
