from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from bench.processes import (
    NotStarted,
    cpu_seconds,
    memory,
    parse_schedstat,
    parse_status,
    running,
    waiting_seconds,
)

STATUS = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t   200 kB\nVmRSS:\t   100 kB\nThreads:\t1\n"
CHILD_OF_ITS_OWN = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print('child', child.pid, flush=True)\n"
    "time.sleep(60)\n"
)


def test_memory_is_read_from_status() -> None:
    read = parse_status(STATUS)
    assert (read.resident, read.peak) == (100 * 1024, 200 * 1024)
    own = memory(os.getpid())
    assert 0 < own.resident <= own.peak


def test_cpu_time_is_that_of_the_process() -> None:
    before, own = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - own < 0.02:
        pass
    spent = time.process_time() - own
    assert cpu_seconds(os.getpid()) - before == pytest.approx(spent, abs=0.01)


def test_waiting_is_the_second_number() -> None:
    assert parse_schedstat("123 456 7\n") == 456
    assert waiting_seconds(os.getpid()) >= 0.0


def test_a_process_and_its_children_are_stopped() -> None:
    pids: list[int] = []

    def fail_while_it_runs() -> None:
        with running("parent", [sys.executable, "-c", CHILD_OF_ITS_OWN]) as process:
            pids.extend([process.pid, int(process.find(r"child (\d+)")[1])])
            raise RuntimeError("the benchmark fails")

    with pytest.raises(RuntimeError, match="the benchmark fails"):
        fail_while_it_runs()
    process, child = pids
    assert not is_running(process)
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def test_a_process_that_ends_too_soon_shows_its_log() -> None:
    command = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    with (
        running("gateway", command) as process,
        pytest.raises(NotStarted, match=r"gateway: status 3\n(?s:.*)no such model"),
    ):
        process.find("listening")


def test_a_process_runs_where_it_is_put() -> None:
    cpu = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", "import os; print('on', os.sched_getaffinity(0), flush=True)"]
    everywhere = os.sched_getaffinity(0)
    with running("pinned", command, cpus={cpu}) as process:
        assert os.sched_getaffinity(0) == everywhere
        process.wait_until(lambda: f"on {{{cpu}}}" in process.log(), "affinity")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
