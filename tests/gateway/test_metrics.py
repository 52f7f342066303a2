"""What the gateway counts."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.processes import Gateway, gateway, worker
from tests.sse import chat, stream


def generated(front: Gateway) -> float:
    text = httpx.get(front.url + "/metrics").text
    found = re.search(r"^sluice_gateway_generation_tokens_total\{.*\} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_tokens_are_counted_while_their_answer_goes_on_and_once(fake_model_dir: Path) -> None:
    with (
        worker(fake_model_dir, ENGINE="fake", FAKE_STEP_MS="5") as fake,
        gateway(fake.address) as front,
    ):
        counts = set()
        body = chat(max_tokens=150, n=2)
        for number, _ in enumerate(stream(front.url + "/v1/chat/completions", body)):
            if number % 30 == 0:
                counts.add(generated(front))
        assert any(0 < count < 300 for count in counts)
        assert generated(front) == 300


def test_gateways_of_one_address_are_told_apart(fake_model_dir: Path) -> None:
    with gateway("127.0.0.1:1", wait=False) as one, gateway("127.0.0.1:1", wait=False) as other:
        pattern = re.compile(r"^process_start_time_seconds (\S+)$", re.MULTILINE)
        texts = [httpx.get(each.url + "/metrics").text for each in (one, one, other)]
        [first], [again], [second] = (pattern.findall(text) for text in texts)
        assert first == again != second


def test_what_is_counted_of_a_model_is_there_before_its_first_request(fake_model_dir: Path) -> None:
    """Prometheus sees no growth in a series that begins above 0."""
    with worker(fake_model_dir, ENGINE="fake") as fake, gateway(fake.address) as front:
        lines = httpx.get(front.url + "/metrics").text.splitlines()
        for name in (
            "sluice_failovers_total",
            "sluice_gateway_generation_tokens_total",
            "sluice_time_to_first_token_seconds_count",
            "sluice_inter_token_latency_seconds_count",
            "sluice_e2e_request_latency_seconds_count",
        ):
            assert f'{name}{{model_name="fake-model"}} 0.0' in lines
