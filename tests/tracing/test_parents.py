"""What a client says of its own trace: taken over where it is valid, and never more than that."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.sse import chat
from tests.tracing.test_requests import SPANS
from tests.tracing.traces import CHAT, Client, Ours, traced_pair

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
MALFORMED = [
    "",
    "nonsense",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01" + "-" * 600,
    f"00-{TRACE}-{SPAN}-xx",
]


@pytest.fixture(scope="module")
def client(fake_model_dir: Path) -> Iterator[Client]:
    with traced_pair(fake_model_dir, LOG_FORMAT="json") as started:
        yield started


def ask(client: Client, *headers: tuple[str, str]) -> str:
    """A request with these headers; its id."""
    answer = httpx.post(client.front.url + CHAT, json=chat(max_tokens=1), headers=list(headers))
    assert answer.status_code == 200
    return answer.headers["x-request-id"]


@pytest.mark.parametrize("value", MALFORMED)
def test_a_malformed_parent_is_none(client: Client, value: str) -> None:
    root = client.root_of(ask(client, ("traceparent", value), ("tracestate", "a=b")))
    assert root.trace_id != TRACE
    assert not root.parent_id
    assert not root.trace_state


def test_two_parents_are_none(client: Client) -> None:
    one, two = Ours.new(), Ours.new()
    headers = [*one.headers.items(), *two.headers.items()]
    root = client.root_of(ask(client, *headers))
    assert root.trace_id not in {one.trace_id, two.trace_id}
    assert not root.parent_id


def test_a_malformed_state_leaves_the_parent(client: Client) -> None:
    ours = Ours.new()
    root = client.root_of(ask(client, *ours.headers.items(), ("tracestate", "=,=;" * 300)))
    assert root.parent_id == ours.span_id
    assert not root.trace_state


def test_a_trace_that_its_client_does_not_sample_has_no_spans(client: Client) -> None:
    unsampled = Ours.new()
    parent = unsampled.headers["traceparent"].removesuffix("01") + "00"
    request_id = ask(client, ("traceparent", parent))
    sampled, _ = client.post(chat(max_tokens=1))
    client.trace(sampled, SPANS)  # what was sent before it has come
    assert unsampled.trace_id not in {span.trace_id for span in client.received.spans}
    assert unsampled.trace_id not in client.front.process.text()
    line = client.front.process.wait_for(rf'.*"request_id": "{request_id}".*')[0]
    assert "trace_id" not in line


def test_the_log_tells_of_the_trace_of_a_request(client: Client) -> None:
    ours, answer = client.post(chat(max_tokens=1))
    request_id = answer.headers["x-request-id"]
    line = client.front.process.wait_for(rf'.*"request_id": "{request_id}".*')[0]
    assert re.search(rf'"trace_id": "{ours.trace_id}"', line)
