"""What vLLM's processes write to the log where it is JSON."""

from __future__ import annotations

import contextlib
import json

from tests.engines import READY_SECONDS, vllm_environment
from tests.otlp import receiver
from tests.processes import worker
from tests.worker.traced import Parent, finished, session, trace_of


async def test_all_that_is_logged_in_any_of_them_is_json_and_requests_are_traced() -> None:
    parent = Parent()
    with (
        receiver() as received,
        worker("demo", LOG_FORMAT="json", **vllm_environment(), **received.environment) as lone,
    ):
        lone.process.wait_for('"message": "ready: ', READY_SECONDS)
        async with session(lone) as client:
            await finished(client, parent.sampled, request_id="mine")
        trace = trace_of(received, parent)
        trace.check(parent)
        assert trace.names == ["queue", "prefill", "decode"]
        lone.process.wait_for('"request_id": "mine"')
        lines = []
        for line in lone.process.text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                lines.append(json.loads(line))
        assert {line.get("process") for line in lines} >= {None, "EngineCore"}
        assert [line for line in lines if line["logger"].startswith("vllm.v1.engine")]
        # What is not JSON was printed, not logged: by C++, by Python's warnings, as a bar.
        assert "INFO" not in "".join(line for line in lone.process.log if not line.startswith("{"))
