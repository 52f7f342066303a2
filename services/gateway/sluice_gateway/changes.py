"""Wakes those who wait for something about the workers to change."""

from __future__ import annotations

import asyncio
import contextlib


class Changes:
    """Counts changes; what changed is for the waiter to look up. Lives on the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Something has changed."""
        self.count += 1
        self._next.set()
        self._next = asyncio.Event()

    async def beyond(self, count: int, seconds: float) -> None:
        """Return when there were more than ``count`` changes, or after ``seconds``."""
        if self.count == count:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._next.wait()
