"""What the next token of one row depends on besides its logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from sluice_worker.engines.bad_words import BadWords
from sluice_worker.engines.base import ErrorCode, RequestError, SamplingParams
from sluice_worker.engines.hf.penalties import SeenTokens
from sluice_worker.engines.hf.row_grammar import RowGrammar
from sluice_worker.engines.thinking import Thinking

COLDEST = 1e-5
"""Below this temperature a row is greedy: logits over it would overflow."""


class RowSampler:
    """What sampling needs to know of one row."""

    def __init__(
        self,
        params: SamplingParams,
        seed: int,
        eos_ids: Sequence[int],
        prompt: Sequence[int],
        generated: Sequence[int],
        grammar: RowGrammar | None = None,
    ) -> None:
        self.params = params
        self.seed = seed
        self.grammar = grammar
        self.position = len(generated)
        self.greedy = params.temperature < COLDEST
        # With a grammar, ignore_eos only puts the end off: after it nothing could follow.
        ends = {*params.stop_token_ids, *(() if params.ignore_eos and not grammar else eos_ids)}
        self.stop_ids = frozenset(ends)
        self._all_ends = torch.tensor(sorted({*params.stop_token_ids, *eos_ids}), dtype=torch.long)
        ignored = eos_ids if params.ignore_eos and grammar else ()
        self._ignored = torch.tensor(ignored, dtype=torch.long)
        self._seen = SeenTokens(params, prompt, generated) if SeenTokens.wanted(params) else None
        self._allowed = torch.tensor(sorted(set(params.allowed_token_ids)), dtype=torch.long)
        budget = params.thinking_budget
        self._thinking = Thinking(budget, generated) if budget is not None else None
        self._bad_words = BadWords(params.bad_words, generated) if params.bad_words else None
        self._bias_ids = torch.tensor(list(params.logit_bias), dtype=torch.long)
        self._bias = torch.tensor(list(params.logit_bias.values()), dtype=torch.float)

    @property
    def plain(self) -> bool:
        """Whether the logits are taken as they come."""
        return (
            self.grammar is None
            and self._seen is None
            and self._bad_words is None
            and (self._thinking is None or self._thinking.forced is None)
            and not len(self._allowed)
            and not len(self._bias_ids)
            and self.position >= self.params.min_tokens
        )

    def shape(self, logits: torch.Tensor) -> None:
        """Apply all that comes before temperature to ``logits`` [vocab], in place."""
        if self._force(logits):
            return
        self._forbid(logits)
        if len(self._bias_ids):
            logits[self._bias_ids] += self._bias
        if len(self._ignored):
            _bar(logits, self._ignored)
        if self.position < self.params.min_tokens and len(self._all_ends):
            _bar(logits, self._all_ends)
        if self._seen is not None:
            self._seen.apply(logits)

    def _forbid(self, logits: torch.Tensor) -> None:
        """Bar what may not come here at all. Raises RequestError when nothing is left."""
        if len(self._allowed):
            kept = logits[self._allowed]
            logits.fill_(-math.inf)
            logits[self._allowed] = kept
        if self.grammar is not None:
            logits.masked_fill_(self.grammar.forbidden(), -math.inf)
            if len(self._allowed) and logits.amax() == -math.inf:
                raise _nothing_allowed()
        if self._bad_words is not None and (barred := self._bad_words.barred()):
            logits[torch.tensor(barred)] = -math.inf
            if logits.amax() == -math.inf:
                raise _nothing_but_bad_words()

    def _force(self, logits: torch.Tensor) -> bool:
        """Leave nothing but the end of the reasoning, if that is what has to come."""
        end = self._thinking.forced if self._thinking is not None else None
        if end is None or (self.grammar is not None and self.grammar.forbidden()[end]):
            return False
        logits.fill_(-math.inf)
        logits[end] = 0.0
        return True

    def took(self, token: int) -> None:
        """The row goes on with ``token``."""
        self.position += 1
        if self._seen is not None:
            self._seen.add(token)
        if self._bad_words is not None:
            self._bad_words.add(token)
        if self._thinking is not None:
            self._thinking.add(token)
        if self.grammar is not None and token not in self.stop_ids:
            self.grammar.advance(token)


def _bar(logits: torch.Tensor, ends: torch.Tensor) -> None:
    """Mask the tokens that would end the row, unless nothing else is left."""
    kept = logits[ends]
    logits[ends] = -math.inf
    if logits.amax() == -math.inf:
        logits[ends] = kept


def _nothing_allowed() -> RequestError:
    return RequestError(
        ErrorCode.INVALID_ARGUMENT,
        "None of allowed_token_ids is what the structured output allows here.",
        "sampling.allowed_token_ids",
    )


def _nothing_but_bad_words() -> RequestError:
    return RequestError(
        ErrorCode.INVALID_ARGUMENT,
        "Nothing may come here but what bad_words bars.",
        "bad_words",
    )
