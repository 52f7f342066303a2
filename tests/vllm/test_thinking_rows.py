"""Budgets for reasoning beside structured outputs, which vLLM's core keeps apart."""

from __future__ import annotations

import pytest
from sluice_worker.engines.base import (
    Constraint,
    FinishReason,
    RequestError,
    StructuredOutput,
    ThinkingBudget,
)
from tokenizers import Tokenizer

from tests.vllm.conftest import DEMO
from tests.vllm.driver import PROMPT, Driver

TOKENIZER = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
BEGIN, END = (TOKENIZER.token_to_id(mark) for mark in ("<think>", "</think>"))
#: The first byte of a character of three.
HALF = TOKENIZER.token_to_id("â")


def answer() -> StructuredOutput:
    """Reasoning, and then one of two words."""
    grammar = f'start: TEXT? <[{END}]> ("yes" | "no")\nTEXT: /(?s:.+)/\n'
    return StructuredOutput(Constraint.GRAMMAR, grammar)


@pytest.mark.parametrize("tokens", [0, 3])
def test_a_structured_output_goes_on_behind_reasoning_that_was_ended(
    vllm: Driver, tokens: int
) -> None:
    vllm.engine.prepare(answer())
    key = vllm.finished(
        *PROMPT,
        BEGIN,
        structured_output=answer(),
        thinking_budget=ThinkingBudget(tokens, BEGIN, END, begun=True),
        ignore_eos=False,
        max_tokens=40,
    )
    ids = vllm.ids[key]
    assert ids.index(END) == tokens
    assert TOKENIZER.decode(ids[tokens + 1 :]) in ("yes", "no")
    assert vllm.finishes[key].reason is FinishReason.STOP


def test_an_end_within_a_character_ends_that_row_alone(vllm: Driver) -> None:
    vllm.engine.prepare(answer())
    (other,) = vllm.submit(vllm.request(max_tokens=40))
    key = vllm.finished(
        *PROMPT,
        BEGIN,
        structured_output=answer(),
        thinking_budget=ThinkingBudget(1, BEGIN, END, begun=True),
        logit_bias={HALF: 100.0},
        max_tokens=40,
    )
    vllm.wait(other)
    assert vllm.finishes[key].reason is FinishReason.ERROR
    assert vllm.finishes[other].reason is FinishReason.LENGTH


def test_a_budget_that_vllm_would_count_otherwise_is_refused(vllm: Driver) -> None:
    with pytest.raises(RequestError) as caught:
        vllm.submit(vllm.request(thinking_budget=ThinkingBudget(1, BEGIN, END, begun=True)))
    assert caught.value.field == "thinking_budget"
