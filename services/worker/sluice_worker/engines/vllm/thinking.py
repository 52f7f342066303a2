"""A budget for reasoning, which vLLM keeps itself once it knows the marks around reasoning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from vllm.config import ReasoningConfig, VllmConfig

from sluice_worker.engines.base import ErrorCode, RequestError, ThinkingBudget

#: What a model may have around its reasoning, each mark one token of it.
MARKS = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
)


def reasoning_config(model_dir: Path) -> ReasoningConfig | None:
    """The marks that are tokens of this model; None: it has none that are known.

    vLLM wants to know them at its start, and as text.
    """
    path = model_dir / "tokenizer.json"
    try:
        added = {token["content"] for token in json.loads(path.read_bytes())["added_tokens"]}
    except (OSError, ValueError, KeyError, TypeError):
        return (
            None  # not there yet, or another format: whoever reads it for good says what is wrong
        )
    for begin, end in MARKS:
        if begin in added and end in added:
            return ReasoningConfig(reasoning_start_str=begin, reasoning_end_str=end)
    return None


def keeps_budgets(config: VllmConfig) -> bool:
    """Whether vLLM has found its marks."""
    reasoning = config.reasoning_config
    return reasoning is not None and bool(reasoning.enabled)


def thinking_token_budget(
    budget: ThinkingBudget | None, prompt_ids: Sequence[int], config: VllmConfig
) -> int | None:
    """The budget as vLLM counts it. Raises RequestError for one that it would keep otherwise.

    vLLM counts what the prompt has behind the mark, too.
    """
    if budget is None:
        return None
    reasoning = config.reasoning_config
    marks = (reasoning.reasoning_start_token_ids, reasoning.natural_reasoning_end_token_ids)
    if marks != ([budget.begin_id], [budget.end_id]):
        raise _refused("this model's worker knows other marks of reasoning")
    begin, end = _last(prompt_ids, budget.begin_id), _last(prompt_ids, budget.end_id)
    if budget.begun != (begin > end):
        raise _refused("where reasoning begins is not told by the prompt's tokens")
    return budget.tokens + (len(prompt_ids) - 1 - begin if budget.begun else 0)


def _last(ids: Sequence[int], wanted: int) -> int:
    """The place of the last one, or -1."""
    return next((at for at in range(len(ids) - 1, -1, -1) if ids[at] == wanted), -1)


def _refused(why: str) -> RequestError:
    field = "thinking_budget"
    return RequestError(ErrorCode.INVALID_ARGUMENT, f"{field}: vLLM cannot keep it: {why}", field)
