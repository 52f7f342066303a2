"""Threads that compute masks while the model computes logits.

llguidance computes without Python's lock, so these threads cost a step nothing unless they
are slower than the model. A job cannot be interrupted. One that takes too long is given up:
its thread is replaced and ends with it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

MASK_SECONDS = 2.0
"""Time for one mask. Usual ones take 0.01 to 1 ms, the hardest within llguidance's limits
some hundred; what takes longer holds up all rows of a step."""

_LOOK_SECONDS = 0.05
_JOIN_SECONDS = 1.0


class GivenUp(Exception):
    """A job took too long."""


class Job(Generic[Result]):
    """A result that is on its way."""

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._done = threading.Event()
        self._began: float | None = None
        self._result: Result | None = None
        self._error: BaseException | None = None

    @property
    def overdue(self) -> bool:
        """Whether it is running for too long."""
        began = self._began
        return began is not None and time.monotonic() - began > MASK_SECONDS

    def run(self) -> None:
        """Do the work, in a worker's thread."""
        self._began = time.monotonic()
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it; panics, too
            self._error = error
        self._done.set()

    def wait(self, workers: MaskWorkers) -> Result:
        """The result. Raises what the work raised, or GivenUp."""
        while not self._done.wait(_LOOK_SECONDS):
            workers.replace_overdue()
            if self.overdue:
                raise GivenUp
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class MaskWorkers:
    """A few daemon threads, begun with the first job."""

    def __init__(self, threads: int = 2) -> None:
        self._count = threads
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._busy: dict[threading.Thread, Job[object] | None] = {}

    def begin(self, work: Callable[[], Result]) -> Job[Result]:
        """Have ``work`` done soon."""
        job = Job(work)
        with self._lock:
            while len(self._busy) < self._count:
                self._add_thread()
        self._jobs.put(job)  # type: ignore[arg-type]
        return job

    def replace_overdue(self) -> None:
        """Put new threads in the place of those whose job takes too long."""
        with self._lock:
            for thread, job in list(self._busy.items()):
                if job is not None and job.overdue:
                    del self._busy[thread]
                    self._add_thread()

    def close(self) -> None:
        """End the threads; one with a long job ends after it."""
        with self._lock:
            threads, self._busy = list(self._busy), {}
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join(_JOIN_SECONDS)

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="hf-masks", daemon=True)
        self._busy[thread] = None
        thread.start()

    def _run(self) -> None:
        me = threading.current_thread()
        while (job := self._jobs.get()) is not None:
            with self._lock:
                if me in self._busy:
                    self._busy[me] = job
            job.run()
            with self._lock:
                if me not in self._busy:
                    return
                self._busy[me] = None
