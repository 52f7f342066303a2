"""One row of the fake engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sluice_worker.engines.bad_words import BadWords
from sluice_worker.engines.base import (
    ErrorCode,
    GenerationRequest,
    RequestError,
    RowKey,
    SamplingParams,
)
from sluice_worker.engines.fake_script import Script
from sluice_worker.engines.thinking import Thinking


@dataclass(slots=True)
class FakeRow:
    """A row under way. ``position`` counts generated tokens.

    ``scored`` is the prompt if the row is to tell its log-probabilities.
    """

    key: RowKey
    sampling: SamplingParams
    script: Script
    position: int
    submitted: float
    first_token_at: float
    bad_words: BadWords
    thinking: Thinking | None = None
    scored: Sequence[int] = ()
    priority: int = 0
    started: bool = field(default=False)

    def next_token(self) -> int:
        """The script's next token, or the first one behind it that is not barred.

        Before it comes what has to come. Raises RequestError when all are barred.
        """
        if self.thinking is not None and self.thinking.forced is not None:
            return self.thinking.forced
        barred = self.bad_words.barred()
        says = self.script.token_ids
        for ahead in range(len(says)):
            token = says[(self.position + ahead) % len(says)]
            if token not in barred:
                return token
        message = "The fake engine has nothing left to say but bad_words."
        raise RequestError(ErrorCode.INVALID_ARGUMENT, message, "bad_words")

    def took(self, token: int) -> None:
        """The row goes on with ``token``."""
        self.position += 1
        self.bad_words.add(token)
        if self.thinking is not None:
            self.thinking.add(token)


def fake_rows(
    request: GenerationRequest, script: Script, now: float, first_token_at: float
) -> Iterator[FakeRow]:
    """The rows of a request that comes ``now``."""
    sampling = request.sampling
    budget = sampling.thinking_budget
    for number, spec in enumerate(request.rows):
        yield FakeRow(
            spec.key,
            sampling,
            script,
            len(spec.generated_ids),
            now,
            first_token_at,
            BadWords(sampling.bad_words, spec.generated_ids),
            Thinking(budget, spec.generated_ids) if budget else None,
            request.prompt_ids if number == 0 else (),
            request.priority,
        )
