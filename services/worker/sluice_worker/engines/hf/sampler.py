"""Chooses the next token of every row of a step.

Order as in vLLM and transformers: grammar and allowed tokens, bad words, logit bias, min_tokens,
penalties, temperature, top-k, top-p, min-p, draw. A grammar outdoes all others: what it
forbids is never drawn, and where it allows nothing but an end, the row ends, whatever
min_tokens and ignore_eos say. The end of reasoning, where its budget is spent, outdoes all but
a grammar. What a row gets depends on its own logits,
parameters, seed and position: ops that mix rows see each in the same way, whatever the
batch. Equal logits rank by id, the lower first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sluice_worker.engines.base import TokenLogprobs
from sluice_worker.engines.hf.row_sampler import RowSampler

DrawTokens = Callable[[Sequence[torch.Tensor], Sequence[RowSampler]], Sequence[int]]
"""Draws a token for each row by temperature, top-k, top-p, min-p, seed and position, from its
logits [vocab], contiguous and float32. It changes none of them."""


class PoisonError(Exception):
    """A row's logits are not numbers."""


@dataclass(slots=True)
class Choice:
    """A row's next token, or why there is none."""

    token: int = -1
    logprobs: TokenLogprobs | None = None
    error: Exception | None = None


def sample(logits: torch.Tensor, rows: Sequence[RowSampler], draw: DrawTokens) -> list[Choice]:
    """The next token of each row from ``logits`` [rows, vocab], raw and float32.

    A row that fails has its error in its Choice; the others are as without it.
    """
    try:
        return _sample(logits, rows, draw)
    except Exception as error:  # noqa: BLE001 - some row's; find out which
        if len(rows) == 1:
            return [Choice(error=error)]
        return [sample(logits[i : i + 1], [row], draw)[0] for i, row in enumerate(rows)]


def _sample(logits: torch.Tensor, rows: Sequence[RowSampler], draw: DrawTokens) -> list[Choice]:
    best, ids = logits.max(dim=-1)
    tokens: list[int] = ids.tolist()
    choices = [
        Choice(token)
        if math.isfinite(value)
        else Choice(error=PoisonError("logits are not finite"))
        for token, value in zip(tokens, best.tolist(), strict=True)
    ]
    _await_masks(rows, choices)
    live = [i for i, choice in enumerate(choices) if choice.error is None]
    shaped = [i for i in live if not rows[i].plain]
    drawn = [i for i in live if not rows[i].greedy]
    taken = _shape(logits, rows, choices, shaped) if shaped else {}
    if drawn:
        given = [taken[i] if i in taken else logits[i] for i in drawn]
        for i, token in zip(drawn, draw(given, [rows[i] for i in drawn]), strict=True):
            choices[i].token = token
    _add_logprobs(logits, rows, choices, live)
    return choices


def _await_masks(rows: Sequence[RowSampler], choices: list[Choice]) -> None:
    """Until the grammars' masks are there; a row whose grammar fails has its error."""
    for row, choice in zip(rows, choices, strict=True):
        if row.grammar is not None and choice.error is None:
            try:
                row.grammar.forbidden()
            except Exception as error:  # noqa: BLE001 - the row's
                choice.error = error


def _shape(
    logits: torch.Tensor, rows: Sequence[RowSampler], choices: list[Choice], shaped: list[int]
) -> dict[int, torch.Tensor]:
    """The logits of rows that do not take them as they come, each with its best token chosen."""
    work = logits[torch.tensor(shaped)]
    taken = dict(zip(shaped, work, strict=True))
    for i, own in taken.items():
        rows[i].shape(own)
    best, ids = work.max(dim=-1)
    if not all(math.isfinite(value) for value in best.tolist()):
        raise PoisonError("no token may be drawn")
    for i, token in zip(shaped, ids.tolist(), strict=True):
        choices[i].token = token
    return taken


def _add_logprobs(
    logits: torch.Tensor, rows: Sequence[RowSampler], choices: list[Choice], live: list[int]
) -> None:
    asked = [i for i in live if rows[i].params.logprobs is not None]
    if not asked:
        return
    logprobs = torch.log_softmax(logits[torch.tensor(asked)], dim=-1)
    chosen = torch.tensor([[choices[i].token] for i in asked])
    values = logprobs.gather(1, chosen).squeeze(1).tolist()
    for at, i in enumerate(asked):
        count = min(rows[i].params.logprobs or 0, logits.shape[-1])
        top: tuple[tuple[int, float], ...] = ()
        if count:
            best, ids = logprobs[at].topk(count)
            top = tuple(zip(ids.tolist(), best.tolist(), strict=True))
        choices[i].logprobs = TokenLogprobs(values[at], top)
