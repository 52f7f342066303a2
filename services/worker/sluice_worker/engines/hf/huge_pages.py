"""Weights in huge pages: a step reads all of them, and looking up their small pages takes time too.

Measured on an Intel Xeon, the products of a step of a 135M model in fp16: 16.1 ms instead of 19.7
at one row, 59.8 instead of 64.9 at 32.

The weights lie wherever torch's kernels allocated them, so the process's own memory is gone through
once, after loading. ``MADV_COLLAPSE`` (Linux 6.1) moves it into huge pages at once; where the
kernel does not know it, ``MADV_HUGEPAGE`` leaves that to the kernel's own pace.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

HUGE = 2 << 20
_MADV_HUGEPAGE = 14
_MADV_COLLAPSE = 25


class Region(NamedTuple):
    """Addresses of a mapping, in bytes."""

    begin: int
    end: int


def use_huge_pages() -> None:
    """Move this process's large anonymous memory into huge pages, where the system lets it."""
    try:
        with Path("/proc/self/smaps").open() as lines:
            regions = list(anonymous_regions(lines))
    except OSError:
        return  # no Linux, or no /proc
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    moved = 0
    for region in regions:
        begin = -(-region.begin // HUGE) * HUGE
        size = region.end // HUGE * HUGE - begin
        if size <= 0 or madvise(begin, size, _MADV_HUGEPAGE) != 0:
            continue
        if madvise(begin, size, _MADV_COLLAPSE) == 0:
            moved += size
    log.info("%d MiB moved into huge pages", moved >> 20)


def anonymous_regions(smaps: Iterable[str]) -> Iterator[Region]:
    """Private, writable mappings of no file, mostly resident, that may have huge pages.

    ``smaps``: lines as /proc/PID/smaps has them.
    """
    begin = end = resident = 0
    wanted = False
    for line in smaps:
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            wanted = words[1] == "rw-p" and (len(words) == 5 or words[5] == "[heap]")
            begin, end = (int(part, 16) for part in words[0].split("-"))
        elif words[0] == "Anonymous:":
            resident = int(words[1]) * 1024
        elif words[0] == "VmFlags:":
            # Reserved address space, such as thread stacks and arenas, is not to be filled.
            filled = end - begin >= HUGE and 2 * resident >= end - begin
            if wanted and filled and "nh" not in words:
                yield Region(begin, end)
