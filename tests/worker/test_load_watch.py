"""A load may take for ever, but not stand still for ever."""

from __future__ import annotations

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.lifecycle import Condition, State
from sluice_worker.load_watch import LoadWatch
from sluice_worker.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> LoadWatch:
    return LoadWatch(10.0, clock)


def at(state: State, done: int = 0, message: str = "") -> Condition:
    return Condition(state, message, Progress(bytes_done=done, bytes_total=100))


@pytest.mark.parametrize(
    "state", [pb.WORKER_STATE_VERIFYING, pb.WORKER_STATE_LOADING, pb.WORKER_STATE_WARMING]
)
def test_a_load_that_stands_still_has_failed(watch: LoadWatch, clock: Clock, state: State) -> None:
    watch.observe(at(state))
    clock.now = 9.9
    assert watch.reason is None
    clock.now = 10.1
    assert watch.reason is not None
    assert "10 s (LOAD_STALL_SECONDS)" in watch.reason


def test_it_may_take_as_long_as_bytes_move(watch: LoadWatch, clock: Clock) -> None:
    for done in range(100):
        clock.now += 9.0
        watch.observe(at(pb.WORKER_STATE_LOADING, done))
        assert watch.reason is None


def test_a_new_state_is_movement_and_a_note_is_none(watch: LoadWatch, clock: Clock) -> None:
    watch.observe(at(pb.WORKER_STATE_LOADING, 100))
    clock.now = 9.0
    watch.observe(at(pb.WORKER_STATE_WARMING, 0))
    clock.now = 18.0
    watch.observe(at(pb.WORKER_STATE_WARMING, 0, "vLLM compiles"))
    assert watch.reason is None
    clock.now = 19.5
    assert watch.reason is not None


@pytest.mark.parametrize(
    "state",
    [
        pb.WORKER_STATE_RESOLVING,
        pb.WORKER_STATE_DOWNLOADING,
        pb.WORKER_STATE_READY,
        pb.WORKER_STATE_DRAINING,
        pb.WORKER_STATE_FAILED,
    ],
)
def test_other_states_may_last(watch: LoadWatch, clock: Clock, state: State) -> None:
    watch.observe(at(pb.WORKER_STATE_LOADING))
    watch.observe(at(state))
    clock.now = 1000.0
    assert watch.reason is None
