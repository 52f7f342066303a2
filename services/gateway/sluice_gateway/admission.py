"""How much may be under way: a bound on rows per model, and the gateway's own draining."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from sluice_gateway.errors import Overloaded, Unavailable


def shutting_down() -> Unavailable:
    """The error of a request that this gateway can no longer serve."""
    message = "This gateway is shutting down. Please send the request again."
    return Unavailable(message, code="draining", headers={"Retry-After": "1"})


def _tell_nobody() -> None:
    """Stand in for who wants to know of the draining."""


class Admission:
    """Counts the rows of each model and refuses what would wait too long.

    ``on_drain`` is called when the draining begins.
    """

    def __init__(self, queue_max: int, on_drain: Callable[[], None] = _tell_nobody) -> None:
        self._queue_max = queue_max
        self._on_drain = on_drain
        self._rows: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self.draining = False
        #: The drain's time is over: what is still under way is being ended.
        self.expired = False

    @property
    def rows(self) -> int:
        """Rows under way or waiting, of all models."""
        return self._rows.total()

    def check(self, model_name: str, rows: int, capacity: int) -> None:
        """Raise what ``admit`` would, without holding places."""
        if self.draining:
            raise shutting_down()
        under_way = self._rows[model_name]
        # A request larger than the whole bound is served when nothing else is under way.
        if under_way and under_way + rows > capacity + self._queue_max:
            raise Overloaded(
                f"{under_way} choices are under way for `{model_name}`. Please try again later.",
                headers={"Retry-After": "1"},
            )

    @contextlib.contextmanager
    def admit(self, model_name: str, rows: int, capacity: int) -> Iterator[None]:
        """Hold places for ``rows`` while entered.

        ``capacity`` is how many rows the model's workers compute at once. Raises Overloaded
        when more than ``queue_max`` rows would wait, Unavailable when the gateway drains.
        """
        self.check(model_name, rows, capacity)
        self._rows[model_name] += rows
        self._idle.clear()
        try:
            yield
        finally:
            self._rows[model_name] -= rows
            if not self._rows.total():
                self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Refuse new work; wait for what is under way. Whether all of it ended in time."""
        self.draining = True
        self._on_drain()
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.expired = True
            return False
        return True

    async def wait_idle(self, seconds: float) -> None:
        """Return when nothing is under way, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
