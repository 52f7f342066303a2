"""The load client against the mock server, both as real processes."""

from __future__ import annotations

import json
import sys

from bench.load_plan import LoadPlan, LoadResult
from bench.mock_openai import MODEL
from bench.processes import running
from bench.stacks import Options, mock_backend


def test_a_run_counts_every_token() -> None:
    with mock_backend(Options(step_ms=10)) as (mock, address):
        plan = LoadPlan(
            streams=4,
            tokens=10,
            step_ms=10,
            seconds=1,
            probe_seconds=0.3,
            gateway=address,
            backend=address,
            backend_is_worker=False,
            model=MODEL,
            gateway_pid=mock.pid,
            backend_pid=mock.pid,
        )
        command = [sys.executable, "-m", "bench.load_client", plan.to_json()]
        with running("load client", command) as client:
            result = LoadResult(**json.loads(client.find(r"(?m)^\{.*\}$")[0]))
    assert result.requests > 4
    assert result.tokens_per_chunk == 1.0
    assert 0 < result.tokens_per_second <= 450
    assert result.gateway_us_per_token > 0
    assert result.first_token_p50 > 0
    assert result.backend_first_token_p50 > 0
    assert result.gap_p99 >= result.gap_p50 > 0
