"""What this container may use: cores and memory, its cgroup's limits counted in."""

from __future__ import annotations

import ctypes
import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")

_LIBRARIES = {
    # MKL's results must not depend on the alignment of its operands, or a row's bits
    # depend on which thread computes it.
    "MKL_CBWR": "AUTO,STRICT",
    # A thread that waits for another spins, then sleeps. It should spin for longer than the gap
    # between two products of a layer, a tenth of a millisecond or two, for being woken takes as
    # long again: with 1000 rounds (54 us on an Intel Xeon, whose pause is slow; less on AMD) the
    # products of a step took 30 ms, with 5000 and more 20. By default it spins for milliseconds,
    # and on a shared core steals that time from the one it waits for: measured, 8 ms instead of
    # 0.3 ms for each product beside a busy neighbour.
    "GOMP_SPINCOUNT": "5000",
}


def prepare_libraries() -> None:
    """Set what MKL and OpenMP read as they start. Values from outside stand.

    OpenMP reads its own when torch is imported, MKL at its first product.
    """
    for name, value in _LIBRARIES.items():
        os.environ.setdefault(name, value)


def core_count() -> int:
    """Cores that this process may run on: its affinity, lowered by its CPU quota."""
    cores = len(os.sched_getaffinity(0))
    quota = _cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def free_memory() -> int:
    """Bytes that can still be had before the cgroup's limit or the machine's end."""
    free = _available()
    limit = _number(_CGROUP / "memory.max") or _number(_CGROUP / "memory/memory.limit_in_bytes")
    used = _number(_CGROUP / "memory.current") or _number(_CGROUP / "memory/memory.usage_in_bytes")
    if limit is None or used is None:
        return free
    return max(0, min(free, limit - used + _reclaimable()))


def trim_memory() -> None:
    """Give freed memory back to the operating system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _cpu_quota() -> float | None:
    words = _text(_CGROUP / "cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return int(words[0]) / int(words[1])
    quota = _number(_CGROUP / "cpu/cpu.cfs_quota_us")
    period = _number(_CGROUP / "cpu/cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def _available() -> int:
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _reclaimable() -> int:
    """Page cache that counts towards the cgroup's use but gives way."""
    for line in _text(_CGROUP / "memory.stat").splitlines():
        if line.startswith("inactive_file "):
            return int(line.split()[1])
    return 0


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
