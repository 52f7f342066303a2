"""The worker's state machine."""

from __future__ import annotations

import itertools

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from sluice_worker.lifecycle import Condition, Lifecycle, State, state_name
from sluice_worker.progress import Progress

RESOLVING = pb.WORKER_STATE_RESOLVING
DOWNLOADING = pb.WORKER_STATE_DOWNLOADING
VERIFYING = pb.WORKER_STATE_VERIFYING
LOADING = pb.WORKER_STATE_LOADING
WARMING = pb.WORKER_STATE_WARMING
READY = pb.WORKER_STATE_READY
DRAINING = pb.WORKER_STATE_DRAINING
FAILED = pb.WORKER_STATE_FAILED

ALL = (RESOLVING, DOWNLOADING, VERIFYING, LOADING, WARMING, READY, DRAINING, FAILED)
STEPS = {
    (RESOLVING, DOWNLOADING),
    (RESOLVING, VERIFYING),
    (DOWNLOADING, VERIFYING),
    (VERIFYING, DOWNLOADING),
    (VERIFYING, LOADING),
    (LOADING, WARMING),
    (LOADING, READY),
    (WARMING, READY),
}
WAY = {
    RESOLVING: (),
    DOWNLOADING: (DOWNLOADING,),
    VERIFYING: (VERIFYING,),
    LOADING: (VERIFYING, LOADING),
    WARMING: (VERIFYING, LOADING, WARMING),
    READY: (VERIFYING, LOADING, READY),
    DRAINING: (DRAINING,),
    FAILED: (FAILED,),
}
HALF = Progress(5, 10)


def at(state: State) -> Lifecycle:
    lifecycle = Lifecycle()
    for step in WAY[state]:
        lifecycle.to(step)
    assert lifecycle.condition.state == state
    return lifecycle


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ALL, ALL)))
def test_a_state_follows_where_that_makes_sense(before: State, after: State) -> None:
    lifecycle = at(before)
    ended = before == FAILED or (before == DRAINING and after != FAILED)
    if before == after or ended:
        lifecycle.to(after, "late")
        assert lifecycle.condition == at(before).condition
    elif (before, after) in STEPS or after in (DRAINING, FAILED):
        lifecycle.to(after, "why")
        assert lifecycle.condition == Condition(after, "why")
    else:
        with pytest.raises(ValueError, match=f"{state_name(before)} to {state_name(after)}"):
            lifecycle.to(after)
        assert lifecycle.condition.state == before


def test_names_are_the_protocols_in_lower_case() -> None:
    assert [state_name(state) for state in ALL] == [
        "resolving",
        "downloading",
        "verifying",
        "loading",
        "warming",
        "ready",
        "draining",
        "failed",
    ]


@pytest.mark.parametrize("state", [RESOLVING, DOWNLOADING, VERIFYING, LOADING, WARMING])
def test_progress_and_hindrances_are_noted_under_way(state: State) -> None:
    lifecycle = at(state)
    lifecycle.progress(HALF)
    lifecycle.note("slow")
    assert lifecycle.condition == Condition(state, "slow", HALF)
    lifecycle.note("")
    assert lifecycle.condition == Condition(state, "", HALF)


@pytest.mark.parametrize("state", [READY, DRAINING, FAILED])
def test_progress_and_hindrances_that_come_late_are_ignored(state: State) -> None:
    lifecycle = at(state)
    before = lifecycle.condition
    lifecycle.progress(HALF)
    lifecycle.note("late")
    assert lifecycle.condition == before


def test_the_reason_of_a_failure_stays() -> None:
    lifecycle = at(LOADING)
    lifecycle.to(FAILED, "no space")
    lifecycle.to(FAILED, "another reason")
    lifecycle.to(DRAINING)
    assert lifecycle.condition == Condition(FAILED, "no space")


def test_a_new_state_begins_with_no_progress() -> None:
    lifecycle = at(DOWNLOADING)
    lifecycle.progress(HALF)
    lifecycle.note("slow")
    lifecycle.to(VERIFYING)
    assert lifecycle.condition == Condition(VERIFYING)


def test_watchers_are_told_at_once_and_of_changes_only() -> None:
    lifecycle, seen = Lifecycle(), list[Condition]()
    lifecycle.watch(seen.append)
    lifecycle.to(DOWNLOADING)
    lifecycle.to(DOWNLOADING)
    for _ in range(2):
        lifecycle.progress(HALF)
        lifecycle.note("slow")
    assert seen == [
        Condition(RESOLVING),
        Condition(DOWNLOADING),
        Condition(DOWNLOADING, "", HALF),
        Condition(DOWNLOADING, "slow", HALF),
    ]
