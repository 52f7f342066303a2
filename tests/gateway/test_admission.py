from __future__ import annotations

import asyncio

import pytest
from sluice_gateway.admission import Admission
from sluice_gateway.errors import Overloaded, Unavailable


def test_rows_up_to_capacity_and_queue_are_admitted() -> None:
    admission = Admission(queue_max=2)
    with admission.admit("m", 4, capacity=4), admission.admit("m", 2, capacity=4):
        assert admission.rows == 6
        with pytest.raises(Overloaded) as caught, admission.admit("m", 1, capacity=4):
            pass
        assert caught.value.status == 429
        assert caught.value.headers["Retry-After"]
    assert admission.rows == 0


def test_models_have_bounds_of_their_own() -> None:
    admission = Admission(queue_max=0)
    with admission.admit("one", 1, capacity=1), admission.admit("two", 1, capacity=1):
        assert admission.rows == 2


def test_one_large_request_is_served_when_nothing_else_is() -> None:
    admission = Admission(queue_max=0)
    with admission.admit("m", 64, capacity=32), pytest.raises(Overloaded):
        admission.admit("m", 1, capacity=32).__enter__()


def test_places_are_given_back_after_an_error() -> None:
    admission = Admission(queue_max=0)
    with pytest.raises(RuntimeError), admission.admit("m", 1, capacity=1):
        raise RuntimeError
    assert admission.rows == 0


async def test_draining_waits_for_what_runs_and_refuses_the_rest() -> None:
    admission = Admission(queue_max=1)
    with admission.admit("m", 1, capacity=1):
        draining = asyncio.create_task(admission.drain(5))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as caught, admission.admit("m", 1, capacity=1):
            pass
        assert caught.value.code == "draining"
        assert not draining.done()
    assert await draining


async def test_draining_ends_in_time() -> None:
    admission = Admission(queue_max=1)
    with admission.admit("m", 1, capacity=1):
        assert not await admission.drain(0.01)
