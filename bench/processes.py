"""Processes that a benchmark starts, pins, watches and always stops again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05


class NotStarted(Exception):
    """A process ended, or did not become ready in time; the message has the end of its log."""


@dataclass(frozen=True)
class Memory:
    """Bytes of memory in use, now and at the most."""

    resident: int
    peak: int


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process, user and system, to the nanosecond.

    The process's own clock (clock_getcpuclockid(3)): the sum of what /proc/PID/stat tells in
    ticks of 10 ms.
    """
    return time.clock_gettime(~pid << 3 | 2)


def waiting_seconds(pid: int) -> float:
    """How long the threads of a process were ready to run but had no CPU, added up.

    Noise of the machine: what a process waits for when others are on its CPU. 0 where the
    kernel keeps no account of it.
    """
    total = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has just ended
            total += parse_schedstat(file.read_text())
    return total / 1e9


def parse_schedstat(text: str) -> int:
    """The nanoseconds of waiting in ``/proc/PID/task/TID/schedstat``."""
    return int(text.split()[1])


def memory(pid: int) -> Memory:
    """How much memory a process has."""
    return parse_status(Path(f"/proc/{pid}/status").read_text())


def parse_status(text: str) -> Memory:
    """The memory in ``/proc/PID/status``."""
    found = dict(re.findall(r"^(VmHWM|VmRSS):\s+(\d+) kB$", text, re.MULTILINE))
    return Memory(resident=int(found["VmRSS"]) * 1024, peak=int(found["VmHWM"]) * 1024)


class Process:
    """A running process whose output goes to a file."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.name = name
        self._popen = popen
        self._log = log

    @property
    def pid(self) -> int:
        """Its id, and that of its process group."""
        return self._popen.pid

    def log(self) -> str:
        """All that it wrote so far."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode(errors="replace")

    def find(self, pattern: str, seconds: float = 60.0) -> re.Match[str]:
        """Wait until ``pattern`` is in its output. Raises NotStarted."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(re.finditer(pattern, self.log()))
            return bool(found)

        self.wait_until(look, f"output like {pattern!r}", seconds)
        return found[0]

    def wait_until(self, is_so: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Poll until ``is_so``. Raises NotStarted when the process ends or time is up."""
        deadline = time.monotonic() + seconds
        while not is_so():
            status = self._popen.poll()
            if status is not None or time.monotonic() > deadline:
                why = f"no {what} in {seconds:.0f} s" if status is None else f"status {status}"
                raise NotStarted(f"{self.name}: {why}\n{self.log()[-2000:]}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """SIGTERM to the process, then SIGKILL to what is left of its group."""
        if self._popen.poll() is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    cpus: set[int] | None = None,
) -> Iterator[Process]:
    """A process in a group of its own, on ``cpus`` only; stopped at the end in all cases."""
    with tempfile.TemporaryFile() as log:
        with _affinity(cpus):
            popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(name, popen, log)
        try:
            yield process
        finally:
            process.stop()


@contextlib.contextmanager
def _affinity(cpus: set[int] | None) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)  # a child inherits it before its first instruction
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end_on_signals() -> None:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does: its children are stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot choose one themselves."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
