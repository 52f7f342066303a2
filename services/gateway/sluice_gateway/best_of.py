"""``best_of``: more rows are generated than are answered."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_gateway.answer import CompletionAnswer
from sluice_gateway.choice import Choice
from sluice_gateway.output import Event
from sluice_gateway.usage import Usage


class BestOf:
    """A whole answer that keeps the best of each prompt's candidates, the best one first.

    As OpenAI has it, that is the one whose tokens have the highest log-probability on average;
    of equals the earlier.
    """

    def __init__(
        self, answer: CompletionAnswer, candidates: Sequence[Choice], *, best_of: int, n: int
    ) -> None:
        """``candidates``: ``best_of`` for each prompt, in order; ``n`` of them are kept."""
        self._answer = answer
        self._candidates = candidates
        self._best_of = best_of
        self._n = n

    def add(self, index: int, event: Event) -> None:
        """Take in an event of a candidate."""
        self._answer.add(index, event)

    def body(self, usage: Usage) -> bytes:
        """The answer's JSON. All candidates have ended; ``usage`` is of all of them."""
        kept: list[int] = []
        for first in range(0, len(self._candidates), self._best_of):
            of_prompt = self._candidates[first : first + self._best_of]
            ranked = sorted(of_prompt, key=lambda choice: -choice.mean_logprob)
            kept += [choice.index for choice in ranked[: self._n]]
        self._answer.keep(kept)
        return self._answer.body(usage)
