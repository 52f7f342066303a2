"""Stops code of others that runs for too long in one of our threads."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A watchdog with nothing to watch for so long ends its thread; the next watch starts another.
IDLE_SECONDS = 10.0


# How often a watchdog looks; a function may run for so much longer than its limit.
LOOK_SECONDS = 0.25


class TimeLimitExceeded(BaseException):
    """The code was stopped. A BaseException, so that no ``except Exception`` within it helps."""


class _Watch:
    __slots__ = ("deadline", "fired", "thread_id")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.thread_id = threading.get_ident()
        self.fired = False


class Watchdog:
    """Runs functions with a time limit, in the thread that asks for it.

    One thread of its own looks after all of them, and raises TimeLimitExceeded in the thread of
    one that is late. That happens between two bytecodes: a single long call into C is not
    interrupted, so whoever runs code of others has to bound those calls (see sandbox.py).
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._watches: set[_Watch] = set()
        self._changed = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, function: Callable[[], T]) -> T:
        """The function's result. Raises TimeLimitExceeded."""
        watch = self._begin()
        try:
            try:
                return function()
            finally:
                self._end(watch)
        except TimeLimitExceeded:
            # It may have struck within _end; it strikes no second time.
            self._end(watch)
            raise

    def _begin(self) -> _Watch:
        watch = _Watch(time.monotonic() + self.seconds)
        with self._changed:
            self._watches.add(watch)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch_all, name="template-watchdog", daemon=True
                )
                self._thread.start()
        return watch

    def _end(self, watch: _Watch) -> None:
        with self._changed:
            self._watches.discard(watch)
            fired = watch.fired
            if fired:
                # Take back an exception that was set but has not struck yet: it would hit
                # whatever this thread does next.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(watch.thread_id), ctypes.c_void_p(0)
                )
        if fired:
            raise TimeLimitExceeded

    def _watch_all(self) -> None:
        # Looking now and then, watched or not, costs less than a wake-up for each watch.
        period = min(LOOK_SECONDS, self.seconds / 4)
        last_watch = time.monotonic()
        while True:
            with self._changed:
                now = time.monotonic()
                if self._watches:
                    last_watch = now
                elif now - last_watch > IDLE_SECONDS:
                    self._thread = None
                    return
                for watch in self._watches:
                    if watch.deadline <= now and not watch.fired:
                        watch.fired = True
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(
                            ctypes.c_ulong(watch.thread_id), ctypes.py_object(TimeLimitExceeded)
                        )
            time.sleep(period)
