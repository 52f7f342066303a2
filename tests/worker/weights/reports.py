"""A LoadReport that remembers."""

from __future__ import annotations

from dataclasses import dataclass, field

from sluice_worker.lifecycle import State, state_name
from sluice_worker.progress import Progress


@dataclass
class Remembered:
    states: list[str] = field(default_factory=list)
    progresses: list[Progress] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def state(self, state: State) -> None:
        self.states.append(state_name(state))

    def progress(self, progress: Progress) -> None:
        self.progresses.append(progress)

    def note(self, message: str) -> None:
        self.notes.append(message)
