"""The official JavaScript client, in Node."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.node import run
from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")


@pytest.fixture(scope="module")
def result(front: Gateway) -> dict[str, Any]:
    return run("client.mjs", front)


def test_the_stream_equals_the_whole_answer(result: dict[str, Any]) -> None:
    text = result["whole"]["message"]["content"]
    assert text.startswith("Hello")
    assert result["streamed"]["texts"] == {"0": text}
    assert result["streamed"]["finishes"] == {"0": "stop"}
    assert result["streamed"]["usage"] == result["usage"]
    assert result["two"]["texts"] == {"0": text, "1": text}


def test_the_clients_own_accumulator_takes_the_stream(result: dict[str, Any]) -> None:
    text = result["whole"]["message"]["content"]
    assert result["accumulated"] == [
        {"index": index, "content": text, "role": "assistant", "finish": "stop"} for index in (0, 1)
    ]


def test_completions_and_models(result: dict[str, Any]) -> None:
    assert result["completion"]["finish_reason"] in {"stop", "length"}
    assert isinstance(result["completion"]["text"], str)
    assert result["models"] == ["sluice-demo"]


def test_errors_are_the_clients_own_classes(result: dict[str, Any]) -> None:
    assert result["unknownModel"] == {
        "name": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "param": "model",
    }
    assert result["badField"]["name"] == "BadRequestError"
    assert result["badField"]["param"] == "temperature"
