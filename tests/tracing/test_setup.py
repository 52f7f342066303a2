"""How traces are turned on, and what they must not cost: requests, the log, the end."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.otlp import receiver
from tests.processes import Gateway, Worker, gateway, worker
from tests.sse import chat
from tests.tracing.test_requests import SPANS
from tests.tracing.traces import CHAT, FAKE, traced_gateway, traced_pair, traced_worker


@pytest.fixture(scope="module")
def lone(fake_model_dir: Path) -> Iterator[Worker]:
    with worker(fake_model_dir, **FAKE) as started:
        yield started


def ask(front: Gateway) -> None:
    assert httpx.post(front.url + CHAT, json=chat(max_tokens=2)).status_code == 200


IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
        {"OTEL_PROPAGATORS": "none"},
    ],
    ids=["by-default", "no-exporter", "disabled", "without-an-endpoint", "no-propagator"],
)
def test_without_traces_nothing_of_them_is_loaded(lone: Worker, settings: dict[str, str]) -> None:
    with gateway(lone.address, **IMPORTS, **settings) as front:
        ask(front)
        assert "sluice_gateway.request_log" in front.process.text()
        # FastAPI loads the API, which does nothing without an SDK.
        assert "opentelemetry.sdk" not in front.process.text()
        assert "opentelemetry.exporter" not in front.process.text()
        assert "opentelemetry.propagators.textmap" in front.process.text()
        assert "sluice_gateway.tracing" not in front.process.text()


def test_with_traces_it_is(lone: Worker) -> None:
    with gateway(lone.address, OTEL_TRACES_EXPORTER="console", **IMPORTS) as front:
        ask(front)
        assert "opentelemetry.sdk" in front.process.text()
        assert "sluice_gateway.tracing" in front.process.text()
        front.process.signal(signal.SIGTERM)
        assert front.process.wait() == 0
        front.process.wait_for('"name": "chat fake-model"')


def test_the_resource_is_that_of_the_environment(fake_model_dir: Path) -> None:
    with (
        receiver() as received,
        traced_worker(received, fake_model_dir, **FAKE) as lone,
        traced_gateway(
            received,
            lone,
            OTEL_RESOURCE_ATTRIBUTES="service.name=front,k8s.pod.name=pod-1,service.version=9",
        ) as client,
    ):
        ask(client.front)
        (root,) = received.named("chat fake-model")
        assert root.resource["service.name"] == "front"
        assert root.resource["k8s.pod.name"] == "pod-1"
        assert root.resource["service.version"] == "9"
        assert root.resource["service.instance.id"] == socket.gethostname()


def test_the_name_of_the_service_has_the_last_word(lone: Worker) -> None:
    with (
        receiver() as received,
        traced_gateway(
            received, lone, OTEL_RESOURCE_ATTRIBUTES="service.name=a", OTEL_SERVICE_NAME="b"
        ) as client,
    ):
        ask(client.front)
        (root,) = received.named("chat fake-model")
        assert root.service == "b"


def test_the_sampler_is_that_of_the_environment(lone: Worker) -> None:
    settings = {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    with receiver() as received, traced_gateway(received, lone, **settings) as client:
        ask(client.front)
        ours, _ = client.post(chat(max_tokens=1))  # its client wants it sampled
        client.trace(ours, 3)
        assert {span.trace_id for span in received.spans} == {ours.trace_id}


def test_without_its_propagator_a_client_s_trace_is_not_taken_over(lone: Worker) -> None:
    settings = {"OTEL_PROPAGATORS": "baggage"}
    with receiver() as received, traced_gateway(received, lone, **settings) as client:
        ours, _ = client.post(chat(max_tokens=1))
        (root,) = received.named("chat fake-model")
        assert root.trace_id != ours.trace_id


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER='zipkin': expected one of"),
        ({"OTEL_PROPAGATORS": "tracecontext,b3"}, "OTEL_PROPAGATORS='tracecontext,b3'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL='http/json'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings: dict[str, str], complaint: str) -> None:
    with (
        pytest.raises(AssertionError, match="no 'listening") as failed,
        gateway("127.0.0.1:1", **settings),
    ):
        pass
    assert complaint in str(failed.value)
    assert "Traceback" not in str(failed.value)


def test_what_is_not_sent_yet_is_sent_at_the_end(lone: Worker) -> None:
    with receiver() as received:
        received.environment["OTEL_BSP_SCHEDULE_DELAY"] = "3600000"
        with traced_gateway(received, lone) as client:
            ask(client.front)
            client.front.process.signal(signal.SIGTERM)
            assert client.front.process.wait() == 0
        assert [span.name for span in received.spans if span.kind == "SERVER"] == [
            "chat fake-model"
        ]


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
def test_a_receiver_that_is_away_costs_neither_requests_nor_the_log(
    lone: Worker, there: object, protocol: str
) -> None:
    assert callable(there)
    with (
        there() as port,
        gateway(
            lone.address,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_EXPORTER_OTLP_TIMEOUT="1",
            OTEL_BSP_SCHEDULE_DELAY="20",
            OTEL_BSP_MAX_QUEUE_SIZE="16",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
        ) as front,
    ):
        for _ in range(30):
            ask(front)
        front.process.wait_for("sluice_gateway.tracing: traces: ")
        front.process.signal(signal.SIGTERM)
        assert front.process.wait() == 0
        told = front.process.text()
        assert told.count("sluice_gateway.tracing") <= 2, told
        assert "Traceback" not in told
        assert "opentelemetry" not in told.replace("sluice_gateway.tracing", "")


def test_texts_are_in_the_spans_only_where_that_is_asked_for(fake_model_dir: Path) -> None:
    body = chat("a secret", max_tokens=4)
    with traced_pair(fake_model_dir) as client:
        ours, answer = client.post(body)
        trace = client.trace(ours, SPANS)
        text = answer.json()["choices"][0]["message"]["content"]
        assert "secret" not in str(trace.spans)
        assert text not in str(trace.spans)
    with traced_pair(
        fake_model_dir, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true"
    ) as client:
        ours, answer = client.post(body)
        attributes = client.trace(ours, SPANS).root.attributes
        assert "a secret" in attributes["gen_ai.input.messages"]
        assert text in attributes["gen_ai.output.messages"]
        assert '"finish_reason": "length"' in attributes["gen_ai.output.messages"]
        assert "secret" not in client.front.process.text()
