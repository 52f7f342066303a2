"""What vLLM is told of reasoning and of budgets for it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sluice_worker.engines.base import RequestError, ThinkingBudget
from sluice_worker.engines.vllm.arguments import engine_config
from sluice_worker.engines.vllm.thinking import (
    keeps_budgets,
    reasoning_config,
    thinking_token_budget,
)
from sluice_worker.settings import Settings

from tests.engines import vllm_environment
from tests.vllm.conftest import DEMO

BEGIN, END = 7, 8
CONFIG: Any = SimpleNamespace(
    reasoning_config=SimpleNamespace(
        reasoning_start_token_ids=[BEGIN], natural_reasoning_end_token_ids=[END]
    )
)


def counted(prompt: list[int], *, begun: bool, begin: int = BEGIN, end: int = END) -> int | None:
    return thinking_token_budget(ThinkingBudget(5, begin, end, begun), prompt, CONFIG)


def test_what_the_prompt_has_of_reasoning_is_no_part_of_the_budget() -> None:
    assert counted([1, BEGIN], begun=True) == 5
    assert counted([1, BEGIN, 2, 3], begun=True) == 7
    assert counted([BEGIN, 2, END, BEGIN, 3], begun=True) == 6
    assert counted([1, BEGIN, 2, END], begun=False) == 5
    assert thinking_token_budget(None, [1], CONFIG) is None


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": [1, 2], "begun": True},
        {"prompt": [1, BEGIN], "begun": False},
        {"prompt": [1, BEGIN, END], "begun": True},
        {"prompt": [1, 9], "begun": True, "begin": 9},
        {"prompt": [1, BEGIN], "begun": True, "end": 9},
    ],
)
def test_what_vllm_would_count_otherwise_is_refused_by_name(asked: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        counted(**asked)
    assert caught.value.field == "thinking_budget"


def config(**changes: Any) -> Any:
    given = {name.lower(): value for name, value in vllm_environment().items()}
    return engine_config(Settings(**{**given, **changes}), DEMO, {})


def test_the_marks_of_a_model_are_among_its_tokens() -> None:
    found = config()
    assert keeps_budgets(found)
    added = json.loads((DEMO / "tokenizer.json").read_bytes())["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}
    assert found.reasoning_config.reasoning_start_token_ids == [ids["<think>"]]
    assert found.reasoning_config.reasoning_end_token_ids == [ids["</think>"]]


def test_the_operators_marks_come_first() -> None:
    marks = {"reasoning_start_str": "<tools>", "reasoning_end_str": "</tools>"}
    found = config(vllm_args=f"--enforce-eager --reasoning-config '{json.dumps(marks)}'")
    assert found.reasoning_config.reasoning_start_str == "<tools>"


def test_a_model_without_marks_has_none(tmp_path: Path) -> None:
    assert reasoning_config(tmp_path) is None
    (tmp_path / "tokenizer.json").write_text('{"added_tokens": [{"content": "<think>"}]}')
    assert reasoning_config(tmp_path) is None
    assert not keeps_budgets(SimpleNamespace(reasoning_config=None))
