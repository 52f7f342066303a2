"""Bytes, rates and times left, by a clock of the test's."""

from __future__ import annotations

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.progress import Meter, Progress, size_text


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def steady(meter: Meter, clock: Clock, seconds: int, per_second: int) -> None:
    for _ in range(seconds * 10):
        clock.now += 0.1
        meter.add(per_second // 10, "file")


def test_a_steady_download_has_its_rate_and_the_time_left() -> None:
    clock = Clock()
    meter = Meter(30_000_000, clock=clock)
    steady(meter, clock, 12, 1_000_000)
    progress = meter.progress()
    assert progress.bytes_done == 12_000_000
    assert progress.bytes_total == 30_000_000
    assert progress.bytes_per_second == pytest.approx(1e6, rel=0.05)
    assert progress.eta_seconds == pytest.approx(18, abs=1)
    assert progress.file == "file"


def test_what_was_there_before_counts_as_done_but_not_as_speed() -> None:
    clock = Clock()
    meter = Meter(10_000_000, 8_000_000, clock=clock)
    steady(meter, clock, 2, 100_000)
    assert meter.progress().bytes_done == 8_200_000
    assert meter.progress().bytes_per_second == pytest.approx(1e5, rel=0.1)


def test_a_rate_of_long_ago_is_forgotten() -> None:
    clock = Clock()
    meter = Meter(10**9, clock=clock)
    steady(meter, clock, 20, 10_000_000)
    steady(meter, clock, 12, 1_000_000)
    assert meter.progress().bytes_per_second == pytest.approx(1e6, rel=0.1)


def test_a_time_left_beyond_all_bounds_is_not_known() -> None:
    clock = Clock()
    meter = Meter(10**12, clock=clock)
    clock.now += 9
    meter.add(1)
    progress = meter.progress()
    assert progress.eta_seconds is None
    pb.Status(eta_seconds=progress.eta_seconds)  # has 32 bits for it


def test_a_stall_shows_as_a_rate_that_falls_and_no_time_left_without_a_rate() -> None:
    clock = Clock()
    meter = Meter(10_000_000, clock=clock)
    assert meter.progress().eta_seconds is None
    steady(meter, clock, 5, 1_000_000)
    clock.now += 30
    assert meter.progress().bytes_per_second < 50_000
    assert meter.quiet_seconds == pytest.approx(30)


def test_the_first_moment_promises_nothing() -> None:
    clock = Clock()
    meter = Meter(10_000_000, clock=clock)
    clock.now += 0.01
    meter.add(64_000)
    assert meter.progress().eta_seconds is None
    assert meter.progress().bytes_per_second <= 64_000 / 0.25


def test_a_step_back_gives_no_negative_rate() -> None:
    clock = Clock()
    meter = Meter(10_000_000, clock=clock)
    steady(meter, clock, 5, 1_000_000)
    meter.add(-4_000_000)
    assert meter.progress().bytes_per_second == 0
    assert meter.progress().bytes_done == 1_000_000
    steady(meter, clock, 2, 1_000_000)
    assert meter.progress().bytes_per_second == pytest.approx(1e6, rel=0.1)


def test_it_is_finished_when_all_bytes_are_done() -> None:
    meter = Meter(10)
    assert not meter.finished
    meter.add(10)
    assert meter.finished
    assert Meter(0).finished


def test_a_pause_that_was_asked_for_is_not_quiet_even_if_other_bytes_move_in_it() -> None:
    clock = Clock()
    meter = Meter(10_000_000, clock=clock)
    meter.excuse(60)
    meter.add(5)  # another file's
    clock.now += 50
    assert meter.quiet_seconds <= 0
    clock.now += 30
    assert meter.quiet_seconds == pytest.approx(20)


def test_a_short_pause_does_not_shorten_a_long_one() -> None:
    clock = Clock()
    meter = Meter(10, clock=clock)
    meter.excuse(60)
    meter.excuse(1)
    clock.now += 30
    assert meter.quiet_seconds <= 0


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (
            Progress(12_300_000, 30_000_000, 1_000_000, 18),
            "12.3 MB of 30.0 MB (41 %), 1.0 MB/s, 18 s left",
        ),
        (Progress(0, 30_000_000), "0 bytes of 30.0 MB (0 %), 0 bytes/s"),
        (Progress(), "0 bytes of 0 bytes, 0 bytes/s"),
    ],
)
def test_a_progress_is_a_line_for_people(progress: Progress, text: str) -> None:
    assert str(progress) == text


def test_sizes_have_the_units_that_disks_are_sold_in() -> None:
    assert [size_text(count) for count in (999, 1500, 2_000_000, 15 * 10**9)] == [
        "999 bytes",
        "1.5 kB",
        "2.0 MB",
        "15.0 GB",
    ]
