from __future__ import annotations

from pathlib import Path

import httpx
from sluice.worker.v1 import worker_pb2 as pb
from sluice_gateway.generation import Generation, Signal
from sluice_gateway.session import WorkerSession

from tests.processes import gateway, worker


def test_a_priority_goes_to_the_worker() -> None:
    session = WorkerSession("test", 5.0)
    generation = Generation([1], pb.SamplingParams(), [1], Signal(), priority=-7)
    session.submit(generation)
    assert session._outgoing.get_nowait().submit.priority == -7


def test_a_priority_is_taken_of_an_engine_that_honours_it(fake_model_dir: Path) -> None:
    with worker(fake_model_dir, ENGINE="fake") as fake, gateway(fake.address) as front:
        for priority in (-5, 0, 5, None):
            body = {"prompt": "x", "max_tokens": 1, "priority": priority}
            assert httpx.post(front.url + "/v1/completions", json=body).status_code == 200
