from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sluice_gateway.watchdog import TimeLimitExceeded, Watchdog


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def test_a_quick_function_gives_its_result() -> None:
    assert Watchdog(5).run(lambda: "done") == "done"


def test_an_error_of_the_function_is_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        Watchdog(5).run(lambda: 1 // 0)


def test_an_endless_loop_is_stopped() -> None:
    start = time.monotonic()
    with pytest.raises(TimeLimitExceeded):
        Watchdog(0.1).run(lambda: spin(60))
    assert time.monotonic() - start < 30


def test_no_except_of_the_function_holds_the_exception_back() -> None:
    def stubborn() -> None:
        while True:
            with contextlib.suppress(Exception):
                spin(60)

    with pytest.raises(TimeLimitExceeded):
        Watchdog(0.1).run(stubborn)


def test_only_the_late_one_of_many_threads_is_stopped() -> None:
    watchdog = Watchdog(0.4)

    def work(number: int) -> str:
        try:
            return watchdog.run(lambda: spin(60 if number == 3 else 0.01))
        except TimeLimitExceeded:
            return "stopped"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert results == ["stopped" if number == 3 else "done" for number in range(8)]


def test_a_function_that_ends_at_the_limit_leaves_nothing_behind() -> None:
    # The exception may be set just when the function returns: then it must still strike within
    # run, or not at all.
    watchdog, stray = Watchdog(0.01), []

    def work() -> None:
        for round_ in range(60):
            try:
                with contextlib.suppress(TimeLimitExceeded):
                    watchdog.run(partial(time.sleep, 0.008 + round_ % 10 / 1000))
                spin(0.002)
            except TimeLimitExceeded as error:
                stray.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stray == []


def test_an_idle_watchdog_holds_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice_gateway.watchdog.IDLE_SECONDS", 0.01)
    watchdog = Watchdog(0.1)
    watchdog.run(lambda: None)
    thread = watchdog._thread
    if thread is not None:
        thread.join(10)
    assert watchdog._thread is None
    with pytest.raises(TimeLimitExceeded):
        watchdog.run(lambda: spin(60))
