"""Where the worker is in its life: one state machine, one owner, many watchers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.progress import Progress

State: TypeAlias = pb.WorkerState.ValueType

#: Which states may follow which. FAILED and DRAINING can follow any.
_NEXT: dict[State, frozenset[State]] = {
    pb.WORKER_STATE_RESOLVING: frozenset({pb.WORKER_STATE_DOWNLOADING, pb.WORKER_STATE_VERIFYING}),
    pb.WORKER_STATE_DOWNLOADING: frozenset({pb.WORKER_STATE_VERIFYING}),
    # A file that turns out to be damaged is downloaded again.
    pb.WORKER_STATE_VERIFYING: frozenset({pb.WORKER_STATE_DOWNLOADING, pb.WORKER_STATE_LOADING}),
    pb.WORKER_STATE_LOADING: frozenset({pb.WORKER_STATE_WARMING, pb.WORKER_STATE_READY}),
    pb.WORKER_STATE_WARMING: frozenset({pb.WORKER_STATE_READY}),
    pb.WORKER_STATE_READY: frozenset(),
    pb.WORKER_STATE_DRAINING: frozenset(),
    pb.WORKER_STATE_FAILED: frozenset(),
}


def state_name(state: State) -> str:
    """``WORKER_STATE_READY`` as ``ready``."""
    return pb.WorkerState.Name(state).removeprefix("WORKER_STATE_").lower()


@dataclass(frozen=True, slots=True)
class Condition:
    """A state, what there is to say of it, and how far it is.

    ``message`` is one line fit for clients.
    """

    state: State
    message: str = ""
    progress: Progress = field(default_factory=Progress)


class Lifecycle:
    """Holds the condition and tells its watchers of each change.

    Not thread-safe: it lives on the event loop; other threads go through
    ``loop.call_soon_threadsafe``.
    """

    def __init__(self) -> None:
        self.condition = Condition(pb.WORKER_STATE_RESOLVING)
        self._watchers: list[Callable[[Condition], None]] = []

    def watch(self, watcher: Callable[[Condition], None]) -> None:
        """Call ``watcher`` now and on each change."""
        self._watchers.append(watcher)
        watcher(self.condition)

    def to(self, state: State, message: str = "") -> None:
        """Go to ``state``. Raises ValueError for a step that makes no sense.

        Nothing leads out of FAILED, and out of DRAINING only FAILED: a loader that is still
        under way then may say what it likes.
        """
        current = self.condition.state
        ended = current == pb.WORKER_STATE_FAILED or (
            current == pb.WORKER_STATE_DRAINING and state != pb.WORKER_STATE_FAILED
        )
        if state == current or ended:
            return
        always = (pb.WORKER_STATE_FAILED, pb.WORKER_STATE_DRAINING)
        if state not in always and state not in _NEXT[current]:
            raise ValueError(f"no way from {state_name(current)} to {state_name(state)}")
        self._change(Condition(state, message))

    def progress(self, progress: Progress) -> None:
        """Note how far the present state is."""
        if progress != self.condition.progress and self._on_its_way:
            self._change(replace(self.condition, progress=progress))

    def note(self, message: str) -> None:
        """Note what hinders the present state; empty when nothing does."""
        if message != self.condition.message and self._on_its_way:
            self._change(replace(self.condition, message=message))

    @property
    def _on_its_way(self) -> bool:
        return bool(_NEXT[self.condition.state])

    def _change(self, condition: Condition) -> None:
        self.condition = condition
        for watcher in self._watchers:
            watcher(condition)
