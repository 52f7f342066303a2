"""The lifecycle in the log, at a sane rate."""

from __future__ import annotations

import logging

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.lifecycle import Lifecycle
from sluice_worker.lifecycle_log import LifecycleLog
from sluice_worker.progress import Progress


class Logged:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "sluice_worker.lifecycle_log")
        self.records: list[logging.LogRecord] = []
        caplog.handler.addFilter(self._keep)
        self.now = 50.0
        self.lifecycle = Lifecycle()
        self.lifecycle.watch(LifecycleLog("org/model", lambda: self.now).observe)

    def _keep(self, record: logging.LogRecord) -> bool:
        self.records.append(record)
        return True

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    return Logged(caplog)


def test_each_state_is_a_line(logged: Logged) -> None:
    for state in (pb.WORKER_STATE_VERIFYING, pb.WORKER_STATE_LOADING, pb.WORKER_STATE_READY):
        logged.lifecycle.to(state)
    words = [line.split()[0].rstrip(":") for line in logged.lines]
    assert words == ["resolving", "verifying", "loading", "ready"]


def test_readiness_says_whose_it_is_and_how_long_it_took(logged: Logged) -> None:
    logged.lifecycle.to(pb.WORKER_STATE_VERIFYING)
    logged.lifecycle.to(pb.WORKER_STATE_LOADING)
    logged.now += 12.3
    logged.lifecycle.to(pb.WORKER_STATE_READY)
    assert logged.lines[-1] == "ready: org/model after 12.3 s"


def test_a_failure_is_an_error_with_its_reason(logged: Logged) -> None:
    logged.lifecycle.to(pb.WORKER_STATE_FAILED, "no space")
    assert logged.lines[-1] == "failed: no space"
    assert logged.records[-1].levelno == logging.ERROR


def test_progress_is_a_line_after_two_seconds_and_then_every_ten(logged: Logged) -> None:
    logged.lifecycle.to(pb.WORKER_STATE_DOWNLOADING)
    before = len(logged.lines)
    for step in range(1, 4 * 33):
        logged.now += 0.25
        logged.lifecycle.progress(Progress(step, 1_000, 4, 9, "a"))
    lines = logged.lines[before:]
    assert len(lines) == 4  # after 2, 12, 22 and 32 seconds
    assert lines[0].startswith("downloading model=org/model bytes_done=8 bytes_total=1000")


def test_a_line_has_keys_and_values_and_what_hinders(logged: Logged) -> None:
    logged.lifecycle.to(pb.WORKER_STATE_DOWNLOADING)
    logged.lifecycle.note("the hub is slow; trying again")
    logged.now += 3
    logged.lifecycle.progress(Progress(250, 1_000, 4, None))
    assert logged.lines[-1] == (
        "downloading model=org/model bytes_done=250 bytes_total=1000 percent=25 "
        "bytes_per_second=4 eta_seconds=unknown file=- note='the hub is slow; trying again'"
    )


def test_a_state_of_unknown_size_has_no_figures(logged: Logged) -> None:
    before = len(logged.lines)
    logged.now += 60
    logged.lifecycle.note("the hub cannot be reached; trying again")
    assert len(logged.lines) == before


def test_a_short_state_has_no_progress_line(logged: Logged) -> None:
    logged.lifecycle.to(pb.WORKER_STATE_DOWNLOADING)
    before = len(logged.lines)
    logged.now += 1
    logged.lifecycle.progress(Progress(1, 2))
    assert len(logged.lines) == before
