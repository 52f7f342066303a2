"""One downloader per volume, without locks: who has the lease, and who takes it over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sluice_worker.progress import Progress
from sluice_worker.weights import lease as module
from sluice_worker.weights.lease import Holder, Lease, LeaseLost

BEATS = Progress(10, 100, 5, 18, "a file")


class Clock:
    """Stands in for ``time`` in the module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease"


def files(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def claim(path: Path, **changes: object) -> None:
    """As if another process held it."""
    fields = {name: getattr(Holder(), name) for name in Holder.__dataclass_fields__}
    path.write_text(json.dumps({**fields, "beats": 0, **changes}))


def test_one_has_it_and_the_other_waits_until_it_is_given_back(path: Path) -> None:
    first, second = Lease(path), Lease(path)
    assert first.try_acquire()
    assert not second.try_acquire()
    with first:
        assert not second.try_acquire()
    assert files(path) == []
    assert second.try_acquire()


def test_who_waits_sees_how_far_the_holder_is(path: Path, clock: Clock) -> None:
    first, second = Lease(path), Lease(path)
    assert second.others_progress() == Progress()
    assert first.try_acquire()
    clock.now += 2
    first.beat(BEATS)
    assert second.others_progress() == BEATS
    path.write_text('{"progress": {"unknown": 1}}')
    assert second.others_progress() == Progress()


def test_beats_come_once_a_second_and_leave_nothing(path: Path, clock: Clock) -> None:
    lease = Lease(path)
    assert lease.try_acquire()
    before = path.read_bytes()
    lease.beat(BEATS)
    assert path.read_bytes() == before
    clock.now += 1.1
    lease.beat(BEATS)
    assert path.read_bytes() != before
    assert files(path) == ["lease"]


def test_a_holder_that_beats_keeps_it_however_long(path: Path, clock: Clock) -> None:
    first, second = Lease(path), Lease(path)
    assert first.try_acquire()
    for _ in range(50):
        clock.now += 1.1
        first.beat(BEATS)
        assert not second.try_acquire()


def test_a_silent_holder_loses_it_and_learns_so_at_its_next_beat(path: Path, clock: Clock) -> None:
    first, second = Lease(path), Lease(path)
    assert first.try_acquire()
    assert first.fresh
    assert not second.try_acquire()
    clock.now += module.STALE_SECONDS - 0.5
    assert not first.fresh  # before anybody else can have it
    assert not second.try_acquire()
    clock.now += 1
    assert second.try_acquire()
    with pytest.raises(LeaseLost), first:
        first.beat(BEATS)
    assert not Lease(path).try_acquire()  # the second one's lease stands
    second.beat(BEATS)


def test_a_lease_that_is_gone_is_lost(path: Path, clock: Clock) -> None:
    lease = Lease(path)
    assert lease.try_acquire()
    path.unlink()
    clock.now += 2
    with pytest.raises(LeaseLost):
        lease.beat(BEATS)


def test_a_half_written_lease_is_waited_for_and_then_taken_away(path: Path, clock: Clock) -> None:
    for content in (b"", b'{"pid": "x', b"[]", b'{"pid": "x"}'):
        path.write_bytes(content)
        lease = Lease(path)
        assert not lease.try_acquire()
        clock.now += module.STALE_SECONDS + 0.1
        assert lease.try_acquire()
        with lease:
            pass


def test_a_waiter_that_is_late_does_not_touch_the_new_holders_lease(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have judged the same holder dead; the quicker one has the lease already."""
    claim(path, pid=2**22 + 1, started="1", name="dead")
    quick, late = Lease(path), Lease(path)
    take_away = late._take_away

    def late_take_away(dead: bytes) -> bool:
        assert quick.try_acquire()
        # Not for a moment: a third waiter would find the way free.
        monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("it was moved"))
        return take_away(dead)

    monkeypatch.setattr(late, "_take_away", late_take_away)
    assert not late.try_acquire()
    assert json.loads(path.read_bytes())["name"] == quick.holder.name
    assert files(path) == ["lease"]


def test_one_that_died_while_it_removed_a_lease_is_waited_for_and_then_passed_over(
    path: Path, clock: Clock
) -> None:
    claim(path, pid=2**22 + 1, started="1", name="dead")
    path.with_name(".lease.remover").touch()
    lease = Lease(path)
    assert not lease.try_acquire()
    clock.now += module.STALE_SECONDS - 0.1
    assert not lease.try_acquire()
    clock.now += 0.2
    assert not lease.try_acquire()  # the way is free now
    assert lease.try_acquire()
    assert files(path) == ["lease"]


def test_of_many_waiters_one_takes_over(path: Path) -> None:
    script = (
        "import sys, pathlib; from sluice_worker.weights.lease import Lease\n"
        "lease = Lease(pathlib.Path(sys.argv[1])); print('here', flush=True); input()\n"
        "print(lease.try_acquire(), flush=True); input()"
    )
    waiters = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    try:
        for waiter in waiters:
            assert waiter.stdout is not None
            assert waiter.stdout.readline() == b"here\n"
        claim(path, pid=2**22 + 1, started="1", name="dead")
        for waiter in waiters:
            assert waiter.stdin is not None
            waiter.stdin.write(b"\n")
            waiter.stdin.flush()
        said = [waiter.stdout.readline() for waiter in waiters if waiter.stdout]
        assert said.count(b"True\n") <= 1  # none, where all were late: they look again
        assert len(said) == 4
    finally:
        for waiter in waiters:
            waiter.kill()
            waiter.communicate()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_holder_that_lives_on_this_machine_is_not_dead(
    path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    claim(path, pid=sleeper.pid, started=module._started(sleeper.pid))
    assert not Lease(path).try_acquire()


def test_a_holder_that_was_killed_is_dead_at_once_even_as_a_zombie(
    path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    claim(path, pid=sleeper.pid, started=module._started(sleeper.pid))
    sleeper.kill()
    deadline = time.monotonic() + 30
    while not Lease(path).try_acquire():  # nobody has waited for the process
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert deadline - time.monotonic() > 26  # long before STALE_SECONDS
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # it still is one


def test_a_stopped_holder_is_not_dead(path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    claim(path, pid=sleeper.pid, started=module._started(sleeper.pid))
    sleeper.send_signal(signal.SIGSTOP)
    assert not Lease(path).try_acquire()


def test_a_process_id_that_was_given_out_again_is_another_process(path: Path) -> None:
    claim(path, pid=os.getpid(), started="12345")
    assert Lease(path).try_acquire()


@pytest.mark.parametrize("pid", ["x", None, -1, 0])
def test_a_process_id_of_nonsense_is_judged_by_its_beats_only(path: Path, pid: object) -> None:
    claim(path, pid=pid, started="12345")
    assert not Lease(path).try_acquire()


@pytest.mark.parametrize("changes", [{"host": "another"}, {"namespace": "another"}])
def test_processes_of_other_machines_are_judged_by_their_beats_only(
    path: Path, changes: dict[str, str]
) -> None:
    claim(path, pid=2**22 + 1, started="1", **changes)
    assert not Lease(path).try_acquire()


def test_a_process_that_proc_hides_is_not_dead(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", hidden)
    claim(path, pid=2**22 + 1, started="5")
    assert not Lease(path).try_acquire()


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As network file systems say it: ESTALE."""
    assert Lease(path).try_acquire()

    def stale(self: Path) -> bytes:
        raise OSError(module.errno.ESTALE, "Stale file handle")

    waiting = Lease(path)
    monkeypatch.setattr(Path, "read_bytes", stale)
    assert not waiting.try_acquire()
    assert waiting.others_progress() == Progress()


def test_a_lease_that_could_not_be_written_is_not_left_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(path)

    def full(progress: Progress) -> bytes:
        raise OSError(module.errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lease, "_claim", full)
    with pytest.raises(OSError, match="No space"):
        lease.try_acquire()
    assert files(path) == []
