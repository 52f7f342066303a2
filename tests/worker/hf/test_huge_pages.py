"""Which memory is moved into huge pages, and that it is."""

from __future__ import annotations

import mmap
import platform
import re
from pathlib import Path

import pytest
from sluice_worker.engines.hf.huge_pages import HUGE, Region, anonymous_regions, use_huge_pages

MB = 1 << 20


def mapping(
    begin: int,
    size: int,
    resident: int,
    rest: str = "rw-p 00000000 00:00 0",
    flags: str = "rd wr mr mw me ac",
) -> list[str]:
    return [
        f"{begin:08x}-{begin + size:08x} {rest}\n",
        f"Size:           {size >> 10:8d} kB\n",
        f"Rss:            {resident >> 10:8d} kB\n",
        f"Anonymous:      {resident >> 10:8d} kB\n",
        f"VmFlags: {flags} \n",
    ]


def found(*mappings: list[str]) -> list[Region]:
    return list(anonymous_regions(line for lines in mappings for line in lines))


def test_large_anonymous_memory_and_the_heap_are_taken() -> None:
    heap = mapping(256 * MB, 4 * MB, 4 * MB, "rw-p 00000000 00:00 0          [heap]")
    weights = mapping(512 * MB, 64 * MB, 64 * MB)
    assert found(heap, weights) == [
        Region(256 * MB, 260 * MB),
        Region(512 * MB, 576 * MB),
    ]


@pytest.mark.parametrize(
    "other",
    [
        mapping(64 * MB, HUGE - 4096, HUGE - 4096),
        mapping(64 * MB, 64 * MB, MB),  # reserved: a stack, an arena
        mapping(64 * MB, 64 * MB, 64 * MB, flags="rd wr mr mw me nr nh"),  # keys and values
        mapping(64 * MB, 64 * MB, 64 * MB, "r--p 00000000 fe:00 123       /srv/model.safetensors"),
        mapping(64 * MB, 64 * MB, 64 * MB, "rw-p 00000000 fe:00 123       /usr/lib/libtorch.so"),
        mapping(64 * MB, 64 * MB, 64 * MB, "rw-s 00000000 00:01 9         /dev/shm/x"),
        mapping(64 * MB, 64 * MB, 64 * MB, "rw-p 00000000 00:00 0          [stack]"),
    ],
)
def test_all_else_is_left_alone(other: list[str]) -> None:
    assert found(other) == []


def huge_kilobytes() -> int:
    told = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^AnonHugePages: *(\d+) kB", told, re.MULTILINE))


def collapses() -> bool:
    """Whether this system moves memory into huge pages when it is asked to."""
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    enabled = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return release >= (6, 1) and enabled.exists() and "[never]" not in enabled.read_text()


@pytest.mark.skipif(not collapses(), reason="this kernel moves no memory into huge pages")
def test_memory_is_moved_and_keeps_its_content() -> None:
    content = bytes(range(256)) * (32 * MB // 256)
    with mmap.mmap(-1, 32 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[:] = content
        before = huge_kilobytes()
        use_huge_pages()
        assert memory[:] == content
        assert huge_kilobytes() >= before + 28 * 1024
