from __future__ import annotations

from sluice_worker.engines.base import ThinkingBudget
from sluice_worker.engines.thinking import Thinking

BEGIN, END = 1, 2


def forced(tokens: int, *generated: int, begun: bool = True) -> int | None:
    return Thinking(ThinkingBudget(tokens, BEGIN, END, begun), generated).forced


def test_the_end_is_forced_after_as_many_tokens() -> None:
    assert forced(0) == END
    assert forced(2, 7) is None
    assert forced(2, 7, 8) == END
    assert forced(2, 7, 8, 9) == END  # it could not come at once


def test_what_has_ended_is_never_ended_again() -> None:
    assert forced(2, 7, END) is None
    assert forced(0, END, BEGIN, 7, 8) is None


def test_reasoning_that_the_prompt_has_not_begun_begins_with_its_mark() -> None:
    assert forced(0, begun=False) is None
    assert forced(0, 7, 8, begun=False) is None
    assert forced(2, 7, BEGIN, 8, begun=False) is None
    assert forced(2, 7, BEGIN, 8, 9, begun=False) == END


def test_a_mark_of_the_beginning_within_counts() -> None:
    assert forced(2, BEGIN, 7) == END
