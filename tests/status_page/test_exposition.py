"""What the page makes of a gateway's metrics."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from sluice_gateway.metrics import GatewayMetrics

from tests.status_page.browser import Browser

SOURCE = (files("sluice_gateway.status_page") / "exposition.js").read_text()


@pytest.fixture
def evaluate(chromium: Browser) -> Any:
    page = chromium.open("data:text/html,")

    def evaluated(expression: str) -> Any:
        return page.value(f"(() => {{ {SOURCE}\nreturn {expression}; }})()")

    yield evaluated
    page.close()


def test_the_gateways_own_exposition_is_read(evaluate: Any) -> None:
    metrics = GatewayMetrics()
    for name in ("one", 'a "quoted" \\ name\n'):
        model = metrics.of_model(name)
        model.generation_tokens.inc(20)
        model.time_to_first_token.observe(0.03)
        model.success["stop"].inc()
    metrics.rejected.labels("overloaded").inc(3)
    text = metrics.exposition()[0].decode()
    told = evaluate(
        f"(({{firstTokens, refused, ...rest}}) => ({{...rest, refused: [...refused],"
        f" median: medianOf(firstTokens)}}))(new Counts(parseExposition({json.dumps(text)})))"
    )
    assert told["tokens"] == 40
    assert told["answers"] == 2
    assert told["active"] == 0
    assert told["refused"] == [["overloaded", 3]]
    assert 0.02 < told["median"] <= 0.04
    assert told["gateway"] > 1.7e9


@pytest.mark.parametrize(
    ("buckets", "median"),
    [
        ({}, None),
        ({"1": 0, "+Inf": 0}, None),
        ({"1": 4, "2": 4, "+Inf": 4}, 0.5),
        ({"1": 1, "2": 3, "+Inf": 3}, 1.25),
        ({"1": 1, "+Inf": 9}, 1),
    ],
    ids=str,
)
def test_a_median_lies_within_its_bucket(
    evaluate: Any, buckets: dict[str, int], median: float | None
) -> None:
    assert evaluate(f"medianOf(new Map({json.dumps(list(buckets.items()))}))") == median


def test_gateways_that_answer_in_turns_are_compared_with_themselves(evaluate: Any) -> None:
    samples = [
        (0, "a", 1000),
        (1000, "b", 5),
        (2000, "a", 1020),
        (3000, "b", 45),
        (4000, "a", 1060),
    ]
    adding = "; ".join(
        f"recent.add({at}, {{gateway: '{gateway}', tokens: {tokens}, firstTokens: new Map()}});"
        f" rates.push(recent.tokensPerSecond)"
        for at, gateway, tokens in samples
    )
    rates = evaluate(
        f"(() => {{ const recent = new RecentCounts(), rates = []; {adding}; return rates; }})()"
    )
    assert rates == [None, None, 10, 30, 40]
    # After a pause there is nothing to compare with.
    assert (
        evaluate(
            "(() => { const recent = new RecentCounts();"
            " for (const at of [0, 1000, 60000])"
            "   recent.add(at, {gateway: 1, tokens: at, firstTokens: new Map()});"
            " return recent.tokensPerSecond; })()"
        )
        is None
    )
