"""How large the engine's steps were while a row took part in them."""

from __future__ import annotations


class StepCount:
    """The steps that one session has seen, and their rows."""

    __slots__ = ("rows", "steps")

    def __init__(self) -> None:
        self.steps = 0
        self.rows = 0

    def add(self, batch_size: int) -> None:
        """A step of so many rows, those of other gateways counted in."""
        self.steps += 1
        self.rows += batch_size


class MeanBatch:
    """The mean batch size from the session's latest step on, that step counted in."""

    __slots__ = ("_before", "_count", "_rows_before")

    def __init__(self, count: StepCount, batch_size: int) -> None:
        """``batch_size``: of the latest step."""
        self._count = count
        self._before = count.steps - 1
        self._rows_before = count.rows - batch_size

    @property
    def value(self) -> float:
        """The mean up to now."""
        return (self._count.rows - self._rows_before) / (self._count.steps - self._before)
