"""Who is told how a model comes along."""

from __future__ import annotations

from typing import Protocol

from sluice_worker.lifecycle import State
from sluice_worker.progress import Progress


class LoadReport(Protocol):
    """Told from the loading thread. The worker's lifecycle listens, or a terminal."""

    def state(self, state: State) -> None:
        """A new state began."""

    def progress(self, progress: Progress) -> None:
        """How far the state is."""

    def note(self, message: str) -> None:
        """What hinders it just now, in one line fit for clients; empty when nothing does."""
