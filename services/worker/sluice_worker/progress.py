"""How far a long piece of work is, how fast it goes and when it will be done."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: The rate is that of so many last seconds: short enough to show a stall, long enough to be calm.
WINDOW_SECONDS = 10.0
SAMPLE_SECONDS = 0.25

#: Before so many seconds a rate says nothing of the time left.
ETA_AFTER_SECONDS = 1.0

#: What would take longer is not on its way at all; the contract's field has 32 bits, too.
ETA_MAX_SECONDS = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes done and in all, bytes per second, seconds left (None: not known), the file."""

    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_second: int = 0
    eta_seconds: int | None = None
    file: str = ""

    def __str__(self) -> str:
        """``12.3 MB of 30.0 MB (41 %), 1.0 MB/s, 18 s left``."""
        share = f" ({100 * self.bytes_done // self.bytes_total} %)" if self.bytes_total else ""
        text = f"{size_text(self.bytes_done)} of {size_text(self.bytes_total)}{share}"
        text += f", {size_text(self.bytes_per_second)}/s"
        return text if self.eta_seconds is None else f"{text}, {self.eta_seconds} s left"


def size_text(count: int) -> str:
    """``12.3 MB``: in the units that disks and networks are sold in."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


class Meter:
    """Counts bytes, from any thread."""

    def __init__(
        self, bytes_total: int, bytes_done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = bytes_total
        self._done = bytes_done
        self._file = ""
        self._clock = clock
        self._moved_at = clock()
        self._samples = deque([(self._moved_at, bytes_done)])
        self._lock = threading.Lock()

    def add(self, count: int, file: str = "") -> None:
        """``count`` bytes more are done; a negative count takes back what was discarded."""
        with self._lock:
            now = self._clock()
            self._done += count
            if count > 0:
                self._moved_at = max(self._moved_at, now)
                self._file = file
            elif count < 0:  # a rate across a step back means nothing
                self._samples.clear()
            if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
                self._samples.append((now, self._done))

    def excuse(self, seconds: float) -> None:
        """Count the coming seconds as if bytes moved: the pause was asked for."""
        with self._lock:
            self._moved_at = max(self._moved_at, self._clock() + seconds)

    @property
    def done(self) -> int:
        """Bytes done so far."""
        return self._done

    @property
    def finished(self) -> bool:
        """Whether all bytes are done."""
        return self._done >= self._total

    @property
    def quiet_seconds(self) -> float:
        """How long no byte has moved."""
        return self._clock() - self._moved_at

    def progress(self) -> Progress:
        """How far it is now."""
        with self._lock:
            now = self._clock()
            while len(self._samples) > 1 and now - self._samples[1][0] >= WINDOW_SECONDS:
                self._samples.popleft()
            began, done_then = self._samples[0]
            span = now - began
            rate = (self._done - done_then) / max(span, SAMPLE_SECONDS)
            left = max(0, self._total - self._done)
            known = left <= rate * ETA_MAX_SECONDS and rate > 0 and span >= ETA_AFTER_SECONDS
            eta = math.ceil(left / rate) if known else None
            return Progress(self._done, self._total, max(0, round(rate)), eta, self._file)
