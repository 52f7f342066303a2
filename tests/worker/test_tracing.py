"""The worker's part of a request's trace, as a receiver gets it from a real process."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sluice.worker.v1 import worker_pb2 as pb
from tokenizers import Tokenizer

from tests.otlp import Receiver, receiver
from tests.processes import Worker, worker
from tests.worker.sessions import abort, submit
from tests.worker.traced import ENDLESS, Parent, finished, session, trace_of

FAKE = {"ENGINE": "fake", "FAKE_STEP_MS": "5"}


@pytest.fixture(scope="module")
def received() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


@pytest.fixture(scope="module")
def lone(received: Receiver, fake_model_dir: Path) -> Iterator[Worker]:
    """A worker that sends its spans at once."""
    with worker(fake_model_dir, **FAKE, **received.environment) as started:
        yield started


def scripted(model_dir: Path, **script: object) -> list[int]:
    """A prompt that tells the fake engine what to do."""
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    ids: list[int] = tokenizer.encode("fake:" + json.dumps(script)).ids
    return ids


async def test_a_request_is_a_span_with_its_queue_prefill_and_decode(
    received: Receiver, lone: Worker
) -> None:
    parent = Parent()
    async with session(lone) as client:
        await finished(client, parent.sampled, tracestate="a=b", request_id="req-1")
    trace = trace_of(received, parent)
    trace.check(parent)
    assert trace.request.name == "generate fake-model"
    assert trace.request.status == "UNSET"
    assert trace.names == ["queue", "prefill", "decode"]
    assert trace.parts[-1].end_ns == trace.request.end_ns
    assert {span.trace_state for span in (trace.request, *trace.parts)} == {"a=b"}
    assert trace.request.attributes == {
        "gen_ai.request.model": "fake-model",
        "gen_ai.response.finish_reasons": ["length"],
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "sluice.request_id": "req-1",
        "sluice.gateway": "test",
        "sluice.rows": 1,
        "sluice.batch_size": 1.0,
    }
    assert trace.request.resource["service.name"] == "sluice-worker"
    assert trace.request.resource["service.instance.id"] == socket.gethostname()


async def test_over_http_it_is_the_same(fake_model_dir: Path) -> None:
    parent = Parent()
    with (
        receiver("http/protobuf") as received,
        worker(fake_model_dir, **FAKE, **received.environment) as lone,
    ):
        async with session(lone) as client:
            await finished(client, parent.sampled)
        trace = trace_of(received, parent)
        trace.check(parent)
        assert trace.names == ["queue", "prefill", "decode"]


async def test_rows_of_one_request_are_one_span(received: Receiver, lone: Worker) -> None:
    parent = Parent()
    async with session(lone) as client:
        rows = [pb.Row(row_id=7), pb.Row(row_id=8), pb.Row(row_id=9)]
        await client.call.write(submit(rows=rows, traceparent=parent.sampled))
        await client.call.write(abort(8))
        await client.tokens(9)
    trace = trace_of(received, parent)
    trace.check(parent)
    attributes = trace.request.attributes
    assert attributes["sluice.rows"] == 3
    assert attributes["gen_ai.response.finish_reasons"] == ["length", "aborted", "length"]
    assert attributes["sluice.aborted_rows"] == 1
    assert 10 <= attributes["gen_ai.usage.output_tokens"] < 15


async def test_what_was_aborted_is_no_error(received: Receiver, lone: Worker) -> None:
    parent = Parent()
    async with session(lone) as client:
        await client.call.write(submit(1, sampling=ENDLESS, traceparent=parent.sampled))
        await client.next("step")
        await client.call.write(abort(1))
        trace = trace_of(received, parent)
    trace.check(parent)
    assert trace.names == ["queue", "prefill", "decode"]
    assert trace.request.status == "UNSET"
    assert trace.request.attributes["sluice.aborted_rows"] == 1
    assert "sluice.session_lost" not in trace.request.attributes


async def test_of_what_was_aborted_before_its_first_token_no_part_is_known(
    received: Receiver, fake_model_dir: Path
) -> None:
    parent = Parent()
    slow = {"FAKE_PREFILL_MS": "3600000", "DRAIN_SECONDS": "0"}
    with worker(fake_model_dir, **FAKE, **slow, **received.environment) as lone:
        async with session(lone) as client:
            await client.call.write(submit(1, traceparent=parent.sampled))
            await client.call.write(abort(1))
            trace = trace_of(received, parent)
            lone.process.signal(signal.SIGKILL)
    assert trace.names == []
    assert trace.request.attributes["gen_ai.response.finish_reasons"] == ["aborted"]
    assert trace.request.attributes["gen_ai.usage.output_tokens"] == 0


async def test_a_row_that_fails_is_an_error(
    received: Receiver, lone: Worker, fake_model_dir: Path
) -> None:
    parent = Parent()
    prompt = scripted(fake_model_dir, tokens=3, end="error")
    async with session(lone) as client:
        await finished(client, parent.sampled, prompt_ids=prompt, sampling=ENDLESS)
    trace = trace_of(received, parent)
    trace.check(parent)
    assert trace.names == ["queue", "prefill", "decode"]
    assert trace.request.status == "ERROR"
    assert trace.request.attributes["error.type"] == "internal"
    assert trace.request.attributes["gen_ai.usage.output_tokens"] == 3


async def test_what_is_refused_is_an_error_without_parts(received: Receiver, lone: Worker) -> None:
    parent = Parent()
    async with session(lone) as client:
        await client.call.write(submit(1, prompt_ids=[10**6], traceparent=parent.sampled))
        assert (await client.admission(1)).HasField("error")
    trace = trace_of(received, parent)
    assert trace.names == []
    assert trace.request.status == "ERROR"
    assert trace.request.attributes["error.type"] == "invalid_argument"


async def test_a_session_that_is_lost_ends_its_spans(received: Receiver, lone: Worker) -> None:
    parent = Parent()
    async with session(lone) as client:
        await client.call.write(submit(1, sampling=ENDLESS, traceparent=parent.sampled))
        await client.next("step")
    trace = trace_of(received, parent)
    trace.check(parent)
    assert trace.request.status == "UNSET"
    assert trace.request.attributes["sluice.session_lost"] is True
    assert trace.names == ["queue", "prefill", "decode"]


async def test_a_request_that_no_trace_wants_has_no_span(received: Receiver, lone: Worker) -> None:
    parent, before = Parent(), len(received.spans)
    malformed = "00-" + "0" * 32 + "-" + "1" * 16 + "-01"
    async with session(lone) as client:
        for row_id, given in enumerate((Parent().unsampled, "", malformed, "nonsense"), 1):
            await finished(client, given, row_id)
        await finished(client, parent.sampled, 9)
    trace = trace_of(received, parent)
    assert {span.trace_id for span in received.spans[before:]} == {trace.request.trace_id}


async def test_the_sampler_is_that_of_the_environment(
    received: Receiver, fake_model_dir: Path
) -> None:
    unwanted, wanted = Parent(), Parent()
    settings = {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_SERVICE_NAME": "mine"}
    with worker(fake_model_dir, **FAKE, **received.environment, **settings) as lone:
        async with session(lone) as client:
            await finished(client, unwanted.unsampled, 1)
            await finished(client, wanted.sampled, 2)
        for parent in (unwanted, wanted):
            assert trace_of(received, parent).request.service == "mine"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
    ],
    ids=["by-default", "no-exporter", "disabled", "without-an-endpoint"],
)
async def test_without_traces_nothing_of_them_is_loaded(
    fake_model_dir: Path, settings: dict[str, str]
) -> None:
    settings = {"PYTHONPROFILEIMPORTTIME": "1", **settings}
    with worker(fake_model_dir, **FAKE, **settings) as lone:
        async with session(lone) as client:
            await finished(client, Parent().sampled)
        lone.process.wait_for("request ended")
        assert "sluice_worker.request_line" in lone.process.text()
        assert "opentelemetry" not in lone.process.text()
        assert "sluice_worker.tracing" not in lone.process.text()


async def test_with_traces_they_are_loaded_and_may_go_to_the_console(fake_model_dir: Path) -> None:
    settings = {"PYTHONPROFILEIMPORTTIME": "1", "OTEL_TRACES_EXPORTER": "console"}
    with worker(fake_model_dir, **FAKE, **settings) as lone:
        async with session(lone) as client:
            await finished(client, Parent().sampled)
        assert "sluice_worker.tracing" in lone.process.text()
        assert "opentelemetry.sdk" in lone.process.text()
        lone.process.signal(signal.SIGTERM)
        assert lone.process.wait() == 0
        lone.process.wait_for('"name": "generate fake-model"')


async def test_what_is_not_sent_yet_is_sent_at_the_end(fake_model_dir: Path) -> None:
    done, running = Parent(), Parent()
    with receiver() as received:
        received.environment["OTEL_BSP_SCHEDULE_DELAY"] = "3600000"
        settings = {**FAKE, **received.environment, "DRAIN_SECONDS": "0.2"}
        with worker(fake_model_dir, **settings) as lone:
            async with session(lone) as client:
                await finished(client, done.sampled, 1)
                await client.call.write(submit(2, sampling=ENDLESS, traceparent=running.sampled))
                await client.next("step")
                lone.process.signal(signal.SIGTERM)
                assert lone.process.wait() == 0
        assert trace_of(received, done).request.status == "UNSET"
        assert trace_of(received, running).request.attributes["sluice.session_lost"] is True


async def test_an_engine_that_dies_tells_its_part(fake_model_dir: Path) -> None:
    parent = Parent()
    with receiver() as received:
        received.environment["OTEL_BSP_SCHEDULE_DELAY"] = "3600000"
        settings = {**FAKE, **received.environment, "FAKE_FAIL_AFTER_STEPS": "4"}
        with worker(fake_model_dir, **settings) as lone:
            async with session(lone) as client:
                await finished(client, parent.sampled, sampling=ENDLESS)
            assert lone.process.wait() == 1
        trace = trace_of(received, parent)
        assert trace.request.status == "ERROR"
        assert trace.request.attributes["error.type"] == "unavailable"
        assert trace.names == ["queue", "prefill", "decode"]


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    yield port


@contextlib.contextmanager
def silence() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield silent.getsockname()[1]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("there", [nobody, silence])
async def test_a_receiver_that_is_away_costs_neither_requests_nor_the_log(
    fake_model_dir: Path, there: object, protocol: str
) -> None:
    assert callable(there)
    with (
        there() as port,
        worker(
            fake_model_dir,
            ENGINE="fake",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="20",
            OTEL_BSP_MAX_QUEUE_SIZE="16",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
        ) as lone,
    ):
        async with session(lone) as client:
            for row_id in range(1, 31):
                await finished(client, Parent().sampled, row_id)
        lone.process.wait_for("sluice_worker.tracing: traces: ")
        lone.process.signal(signal.SIGTERM)
        assert lone.process.wait() == 0
        told = lone.process.text()
        assert told.count("sluice_worker.tracing") <= 2, told
        assert "Traceback" not in told
        assert "opentelemetry" not in told.replace("sluice_worker.tracing", "")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER='zipkin': expected one of"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL='http/json'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, str], complaint: str) -> None:
    with (
        pytest.raises(AssertionError, match="no 'metrics on port") as failed,
        worker(ENGINE="fake", **settings),
    ):
        pass
    assert complaint in str(failed.value)
    assert "Traceback" not in str(failed.value)
