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
    scored: Sequence[int] = ()
    started: bool = field(default=False)

    def next_token(self) -> int:
        """The script's next token, or the first one behind it that is not barred.

        Raises RequestError when all are.
        """
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


def fake_rows(
    request: GenerationRequest, script: Script, now: float, first_token_at: float
) -> Iterator[FakeRow]:
    """The rows of a request that comes ``now``."""
    sampling = request.sampling
    for number, spec in enumerate(request.rows):
        yield FakeRow(
            spec.key,
            sampling,
            script,
            len(spec.generated_ids),
            now,
            first_token_at,
            BadWords(sampling.bad_words, spec.generated_ids),
            request.prompt_ids if number == 0 else (),
        )
