"""Log-likelihoods as evaluation harnesses take them from completions, with the Python client."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.processes import Gateway

pytestmark = pytest.mark.xdist_group("demo-stack")
MODEL = "sluice-demo"
CONTEXT = "<|im_start|>user\nSay hello<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def client(front: Gateway) -> OpenAI:
    return OpenAI(base_url=f"{front.url}/v1", api_key="none", max_retries=0)


def ids_of(front: Gateway, text: str) -> list[int]:
    asked = httpx.post(front.url + "/tokenize", json={"prompt": text, "add_special_tokens": False})
    ids: list[int] = asked.json()["tokens"]
    return ids


def likelihood(choice: Any, context: int, generated: int) -> tuple[float, bool]:
    """The continuation's log-likelihood, and whether greedy decoding would have given it."""
    end = len(choice.logprobs.tokens) - generated
    scores = choice.logprobs.token_logprobs[context:end]
    tops = choice.logprobs.top_logprobs[context:end]
    greedy = all(score == max(top.values()) for score, top in zip(scores, tops, strict=True))
    return sum(scores), greedy


@pytest.mark.parametrize("max_tokens", [0, 1])
def test_continuations_are_scored(client: OpenAI, front: Gateway, max_tokens: int) -> None:
    context = ids_of(front, CONTEXT)
    said = client.completions.create(
        model=MODEL, prompt=context, max_tokens=4, temperature=0, logprobs=1
    ).choices[0]
    likely, unlikely = ids_of(front, said.text), ids_of(front, " zebra quartz")
    answer = client.completions.create(
        model=MODEL,
        prompt=[context + likely, context + unlikely],
        max_tokens=max_tokens,
        temperature=0,
        logprobs=5,
        echo=True,
        seed=1234,
    )
    best, worst = (likelihood(choice, len(context), max_tokens) for choice in answer.choices)
    assert best[1]
    assert not worst[1]
    assert best[0] == pytest.approx(sum(said.logprobs.token_logprobs), abs=0.02)
    assert worst[0] < best[0] - 5
    for choice in answer.choices:
        assert choice.logprobs.token_logprobs[0] is None
        assert choice.logprobs.text_offset == sorted(choice.logprobs.text_offset)
    assert answer.usage.completion_tokens == 2 * max_tokens


def test_a_stream_scores_the_same(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "prompt": "What is Sluice?", "max_tokens": 3, "temperature": 0,
        "logprobs": 2, "echo": True,
    }  # fmt: skip
    whole = client.completions.create(**asked).choices[0]
    chunks = [chunk.choices[0] for chunk in client.completions.create(**asked, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    scores = [
        score for chunk in chunks if chunk.logprobs for score in chunk.logprobs.token_logprobs
    ]
    assert scores == pytest.approx(whole.logprobs.token_logprobs, abs=1e-4)
