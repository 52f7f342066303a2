"""The lifecycle in the log: each state, and how far a long one is, at a sane rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sluice.worker.v1 import worker_pb2 as pb

from sluice_worker.lifecycle import Condition, state_name

log = logging.getLogger(__name__)

#: When the first line of a state comes, and how far apart the others are.
FIRST_SECONDS = 2.0
EVERY_SECONDS = 10.0


class LifecycleLog:
    """Watches a lifecycle and writes lines."""

    def __init__(self, model_name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._model_name = model_name
        self._clock = clock
        self._state = pb.WORKER_STATE_UNSPECIFIED
        self._began = clock()
        self._next_at = 0.0

    def observe(self, condition: Condition) -> None:
        """Take in a change of the lifecycle."""
        if condition.state != self._state:
            self._state = condition.state
            self._next_at = self._clock() + FIRST_SECONDS
            message = condition.message
            if condition.state == pb.WORKER_STATE_READY:
                message = f"{self._model_name} after {self._clock() - self._began:.1f} s"
            level = logging.ERROR if condition.state == pb.WORKER_STATE_FAILED else logging.INFO
            log.log(level, "%s%s", state_name(condition.state), f": {message}" if message else "")
        elif condition.progress.bytes_total and self._clock() >= self._next_at:
            self._next_at = self._clock() + EVERY_SECONDS
            log.info("%s", self._line(condition))

    def _line(self, condition: Condition) -> str:
        """In keys and values, for people and for log pipelines alike."""
        progress = condition.progress
        values = {
            "model": self._model_name,
            "bytes_done": progress.bytes_done,
            "bytes_total": progress.bytes_total,
            "percent": 100 * progress.bytes_done // progress.bytes_total,
            "bytes_per_second": progress.bytes_per_second,
            "eta_seconds": "unknown" if progress.eta_seconds is None else progress.eta_seconds,
            "file": progress.file or "-",
        }
        words = " ".join(f"{key}={value}" for key, value in values.items())
        note = f" note={condition.message!r}" if condition.message else ""
        return f"{state_name(condition.state)} {words}{note}"
