"""Notices a load in which nothing moves: a disk that hangs, GPUs that wait for each other."""

from __future__ import annotations

import time
from collections.abc import Callable

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.lifecycle import Condition, state_name

#: States that are told of from here. A download has a watch of its own, which knows the hub.
_WATCHED = frozenset({pb.WORKER_STATE_VERIFYING, pb.WORKER_STATE_LOADING, pb.WORKER_STATE_WARMING})


class LoadWatch:
    """Watches a lifecycle. A load may take for ever as long as states or bytes change."""

    def __init__(self, limit_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_seconds
        self._clock = clock
        self._mark: tuple[int, int] | None = None
        self._since = clock()
        self._state = ""

    def observe(self, condition: Condition) -> None:
        """Take in a change of the lifecycle."""
        watched = condition.state in _WATCHED
        mark = (int(condition.state), condition.progress.bytes_done) if watched else None
        if mark != self._mark:
            self._mark = mark
            self._since = self._clock()
            self._state = state_name(condition.state)

    @property
    def reason(self) -> str | None:
        """Why the load has failed, in one line; None if it has not."""
        if self._mark is None or self._clock() - self._since < self._limit:
            return None
        return (
            f"{self._state} has stood still for {self._limit:.0f} s (LOAD_STALL_SECONDS); "
            "the worker's log may say more"
        )
