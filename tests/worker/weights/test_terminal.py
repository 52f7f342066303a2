"""What a person at a terminal sees of a download, and a job's log."""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker import terminal
from sluice_worker.progress import Progress
from sluice_worker.terminal import TerminalReport

from tests import hub
from tests.worker.weights.downloads import REPO, write_model

HALF = Progress(500_000, 1_000_000, 100_000, 5, "model.safetensors")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("size", [(24, 100), (0, 0)])  # a container's may not know its own
def test_a_download_at_a_terminal_draws_a_bar(tmp_path: Path, size: tuple[int, int]) -> None:
    model = write_model(tmp_path / "model", 600_000)
    with hub.serving({REPO: model}) as served, pseudo_terminal(*size) as (ours, theirs):
        served.faults.bytes_per_second = 500_000
        ended = subprocess.Popen(
            [sys.executable, "-m", "sluice_worker", "download", REPO],
            env={**os.environ, **hub.environment(served, tmp_path / "home"), "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
        os.close(theirs)
        drawn = b"".join(read_all(ours)).decode()
        printed, _ = ended.communicate(timeout=60)
    assert ended.returncode == 0, drawn
    assert "downloading:" in drawn
    assert "model.safetensors" in drawn
    assert "█" in drawn or "#" in drawn
    assert drawn.count("\r") > 4  # drawn over and over
    assert "B/s" in drawn
    assert printed.decode().strip().endswith("0123456789abcdef0123456789abcdef01234567")


@contextlib.contextmanager
def pseudo_terminal(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def read_all(descriptor: int) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # how a pseudo terminal says that it was closed
        while data := os.read(descriptor, 65_536):
            yield data


def test_without_a_terminal_there_are_lines_at_a_sane_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with TerminalReport("org/model", stream) as report:
        report.state(pb.WORKER_STATE_DOWNLOADING)
        report.state(pb.WORKER_STATE_DOWNLOADING)
        for _ in range(100):
            now[0] += 0.25
            report.progress(HALF)
        report.progress(Progress())
    lines = stream.getvalue().splitlines()
    assert lines[0] == "downloading org/model"
    assert 4 <= len(lines) - 1 <= 6
    assert set(lines[1:]) == {"downloading 500.0 kB of 1.0 MB (50 %), 100.0 kB/s, 5 s left"}


def test_a_hindrance_is_said_once() -> None:
    stream = io.StringIO()
    with TerminalReport("org/model", stream) as report:
        for _ in range(3):
            report.note("the hub is slow")
        report.note("")
        report.note("the hub is slow")
    assert stream.getvalue().splitlines() == ["the hub is slow"] * 2


def test_each_state_has_a_bar_of_its_own_and_a_step_back_does_no_harm() -> None:
    stream = Terminal()
    with TerminalReport("org/model", stream) as report:
        for state in (pb.WORKER_STATE_DOWNLOADING, pb.WORKER_STATE_VERIFYING):
            report.state(state)
            report.progress(HALF)
            report.progress(Progress(100_000, 1_000_000))
            report.note("slow")
            report.progress(Progress(1_000_000, 1_000_000))
    text = stream.getvalue()
    assert "downloading:  50%" in text
    assert "verifying:  50%" in text
    assert "100%" in text


def test_what_is_logged_does_not_tear_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    handler = logging.StreamHandler(stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with TerminalReport("org/model", stream) as report:
        report.state(pb.WORKER_STATE_DOWNLOADING)
        report.progress(HALF)
        logging.getLogger("test").warning("something happened")
        report.progress(HALF)
    assert "\nsomething happened\n" in stream.getvalue().replace("\r", "\n")
    assert logging.getLogger().handlers == [handler]
