"""The log and the traces of a worker with the hf engine."""

from __future__ import annotations

import signal

from sluice.worker.v1 import worker_pb2 as pb

from tests.otlp import receiver
from tests.processes import worker
from tests.worker.log_lines import line_of, lines_of
from tests.worker.traced import Parent, finished, session, trace_of

CHOICE = pb.SamplingParams(
    max_tokens=20,
    top_p=1,
    repetition_penalty=1,
    structured_output=pb.StructuredOutput(choices=pb.Choices(choices=["yes", "no"])),
)


async def test_its_requests_are_traced_and_all_its_lines_are_json() -> None:
    plain, constrained = Parent(), Parent()
    with (
        receiver() as received,
        worker(NUM_THREADS="1", LOG_FORMAT="json", **received.environment) as lone,
    ):
        async with session(lone) as client:
            await finished(client, plain.sampled, 1, request_id="plain")
            await finished(client, constrained.sampled, 2, sampling=CHOICE)
        trace = trace_of(received, plain)
        trace.check(plain)
        assert trace.names == ["queue", "prefill", "decode"]
        assert trace.request.name == "generate sluice-demo"
        line = line_of(lone.process, request_id="plain")
        assert line["trace_id"] == plain.trace_id
        assert line["prefill_seconds"] > 0
        (prefill,) = [part for part in trace.parts if part.name == "prefill"]
        assert abs((prefill.end_ns - prefill.start_ns) / 1e9 - line["prefill_seconds"]) < 1e-3
        trace = trace_of(received, constrained)
        trace.check(constrained)
        assert trace.names == ["compile", "queue", "prefill", "decode"]
        lone.process.signal(signal.SIGTERM)
        assert lone.process.wait() == 0
        assert len(lines_of(lone.process)) > 5
