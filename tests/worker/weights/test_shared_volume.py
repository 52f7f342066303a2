"""Several processes with one cache, where file locks may do nothing."""

from __future__ import annotations

import json
import shutil
import signal

import pytest

from tests.worker.weights.downloads import Downloads, Run, wait_until

WEIGHTS = "model.safetensors"
BIG = 400_000
SLACK = 100_000
WAITS = "another worker downloads it into the same cache"

#: Whether file locks work; the others run with locks that do nothing.
locking = pytest.mark.parametrize("locks", [(), ("no locks",)], ids=["locks", "no-locks"])


def holder(downloads: Downloads, *, other_than: int = 0) -> Run:
    """The process that downloads, once there is one."""
    found: list[int] = []

    def look() -> bool:
        lease = downloads.own / "lease"
        try:
            found[:] = [json.loads(lease.read_bytes())["pid"]]
        except (FileNotFoundError, ValueError):
            return False
        return found[0] != other_than

    wait_until(look)
    return next(run for run in downloads.runs if run.pid == found[0])


def wait_for_bytes(downloads: Downloads, count: int) -> None:
    wait_until(lambda: downloads.hub.sent[WEIGHTS] >= count)


@locking
@pytest.mark.parametrize("count", [2, 5])
def test_several_processes_download_once_and_all_end_well(
    downloads: Downloads, count: int, locks: tuple[str, ...]
) -> None:
    downloads.hub.faults.bytes_per_second = 300_000
    runs = [downloads.start(patches=locks) for _ in range(count)]
    assert [run.wait() for run in runs] == [0] * count
    downloads.check_content()
    for name in ("config.json", "tokenizer.json", WEIGHTS):
        assert downloads.hub.sent[name] == (downloads.model / name).stat().st_size
    assert sum(WAITS in run.text for run in runs) == count - 1


def test_who_waits_tells_how_far_the_other_is(downloads: Downloads) -> None:
    downloads.hub.faults.bytes_per_second = 50_000
    runs = [downloads.start() for _ in range(2)]
    first = holder(downloads)
    waiting = next(run for run in runs if run is not first)
    waiting.wait_for(WAITS)
    waiting.wait_for("downloading ")
    wait_until(lambda: "kB/s" in waiting.text)
    downloads.hub.faults.bytes_per_second = 0
    assert [run.wait() for run in runs] == [0, 0]


@locking
def test_a_killed_downloader_is_replaced_and_its_bytes_are_used(
    downloads: Downloads, locks: tuple[str, ...]
) -> None:
    downloads.hub.faults.bytes_per_second = 200_000
    runs = [downloads.start(patches=locks) for _ in range(5)]
    wait_for_bytes(downloads, 150_000)
    first = holder(downloads)
    first.kill()
    holder(downloads, other_than=first.pid)
    downloads.hub.faults.bytes_per_second = 0
    assert sorted(run.wait() for run in runs) == [-9, 0, 0, 0, 0]
    downloads.check_content()
    assert downloads.hub.sent[WEIGHTS] <= BIG + SLACK


@locking
@pytest.mark.parametrize("wake", ["while-another-downloads", "when-all-is-done"])
def test_a_downloader_that_was_stopped_for_long_does_no_harm_when_it_wakes(
    downloads: Downloads, locks: tuple[str, ...], wake: str
) -> None:
    downloads.hub.faults.bytes_per_second = 100_000
    patches = (*locks, "soon stale")
    first = downloads.start(patches=patches)
    wait_for_bytes(downloads, 130_000)
    first.kill(signal.SIGSTOP)
    second = downloads.start(patches=patches)
    holder(downloads, other_than=first.pid)
    if wake == "when-all-is-done":
        downloads.hub.faults.bytes_per_second = 0
        assert second.wait() == 0, second.text
    else:
        wait_for_bytes(downloads, downloads.hub.sent[WEIGHTS] + 50_000)
    first.kill(signal.SIGCONT)
    downloads.hub.faults.bytes_per_second = 0
    assert (first.wait(), second.wait()) == (0, 0), first.text + second.text
    downloads.check_content()
    assert not list(downloads.own.glob("lease"))


def test_a_downloader_that_dies_elsewhere_is_noticed_by_its_silence(downloads: Downloads) -> None:
    """With the real times, and a holder of which only the file is left, from another host."""
    downloads.own.mkdir(parents=True)
    (downloads.own / "lease").write_text(
        json.dumps({"name": "gone", "host": "elsewhere", "namespace": "x", "pid": 1, "beats": 3})
    )
    text = downloads.succeed()
    assert WAITS in text
    assert downloads.hub.sent[WEIGHTS] == BIG


def test_a_failure_of_the_downloader_is_not_the_others_end(downloads: Downloads) -> None:
    downloads.hub.faults.bytes_per_second = 100_000
    first = downloads.start(DOWNLOAD_STALL_SECONDS="1")
    wait_for_bytes(downloads, 60_000)
    second = downloads.start()
    second.wait_for(WAITS)
    downloads.hub.faults.status = 500
    downloads.hub.faults.cut_after = 1
    assert first.wait() == 1, first.text
    downloads.hub.faults.status = downloads.hub.faults.cut_after = 0
    downloads.hub.faults.bytes_per_second = 0
    assert second.wait() == 0, second.text
    downloads.check_content()
    assert downloads.hub.sent[WEIGHTS] <= BIG + SLACK


def test_a_cache_that_is_removed_under_way_is_made_anew(downloads: Downloads) -> None:
    downloads.hub.faults.bytes_per_second = 100_000
    run = downloads.start()
    wait_for_bytes(downloads, 100_000)
    shutil.rmtree(downloads.cache, ignore_errors=True)
    shutil.rmtree(downloads.cache, ignore_errors=True)
    downloads.hub.faults.bytes_per_second = 0
    assert run.wait() == 0, run.text
    downloads.check_content()
