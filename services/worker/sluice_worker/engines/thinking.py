"""How far the reasoning of one row has come, and when it has to end."""

from __future__ import annotations

from collections.abc import Iterable

from sluice_worker.engines.base import ThinkingBudget


class Thinking:
    """Follows the generated tokens of a row that has a budget for its first reasoning."""

    def __init__(self, budget: ThinkingBudget, generated: Iterable[int]) -> None:
        """``generated``: what the row has generated already."""
        self._budget = budget
        self._begun = budget.begun
        self._ended = False
        self._tokens = 0
        for token in generated:
            self.add(token)

    def add(self, token: int) -> None:
        """The row goes on with ``token``."""
        if self._ended:
            return
        if not self._begun:
            self._begun = token == self._budget.begin_id
        elif token == self._budget.end_id:
            self._ended = True
        else:
            self._tokens += 1

    @property
    def forced(self) -> int | None:
        """The token that has to come next, if there is one: the end of the reasoning."""
        spent = self._begun and not self._ended and self._tokens >= self._budget.tokens
        return self._budget.end_id if spent else None
