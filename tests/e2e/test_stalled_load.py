"""A load that stands still ends its worker, with the reason told everywhere."""

from __future__ import annotations

import json
import time

from tests.processes import gateway, worker


def test_a_load_that_stands_still_fails_the_worker_and_says_so() -> None:
    options = {"ENGINE": "fake", "FAKE_LOAD_MS": "600000", "LOAD_STALL_SECONDS": "2"}
    with worker("demo", **options) as started, gateway(started.address, wait=False) as front:
        deadline = time.monotonic() + 30
        while "LOAD_STALL_SECONDS" not in json.dumps(front.health()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        started.process.wait_for(r"ERROR .*stood still for 2 s \(LOAD_STALL_SECONDS\)")
        assert started.process.wait() == 1
