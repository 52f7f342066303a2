"""Where the worker is in its life: one state machine, one owner, many watchers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from sluice.worker.v1 import worker_pb2 as pb

log = logging.getLogger(__name__)

State: TypeAlias = pb.WorkerState.ValueType

#: Which states may follow which. FAILED and DRAINING can follow any.
_NEXT: dict[State, frozenset[State]] = {
    pb.WORKER_STATE_RESOLVING: frozenset({pb.WORKER_STATE_DOWNLOADING, pb.WORKER_STATE_LOADING}),
    pb.WORKER_STATE_DOWNLOADING: frozenset({pb.WORKER_STATE_VERIFYING, pb.WORKER_STATE_LOADING}),
    pb.WORKER_STATE_VERIFYING: frozenset({pb.WORKER_STATE_LOADING}),
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
    """A state, why, and how far the model's files are."""

    state: State
    message: str = ""
    bytes_done: int = 0
    bytes_total: int = 0


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
        level = logging.ERROR if state == pb.WORKER_STATE_FAILED else logging.INFO
        log.log(level, "%s%s", state_name(state), f": {message}" if message else "")
        self._change(replace(self.condition, state=state, message=message))

    def progress(self, bytes_done: int, bytes_total: int) -> None:
        """Note how many of the model's bytes are there."""
        self._change(replace(self.condition, bytes_done=bytes_done, bytes_total=bytes_total))

    def _change(self, condition: Condition) -> None:
        self.condition = condition
        for watcher in self._watchers:
            watcher(condition)
