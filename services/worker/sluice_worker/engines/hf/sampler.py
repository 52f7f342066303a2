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
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sluice_worker.engines.base import SamplingParams, TokenLogprobs
from sluice_worker.engines.hf.draws import uniform
from sluice_worker.engines.hf.row_sampler import RowSampler

_PREFIXES = (128, 2048)
_BLOCK = 256


class PoisonError(Exception):
    """A row's logits are not numbers."""


@dataclass(slots=True)
class Choice:
    """A row's next token, or why there is none."""

    token: int = -1
    logprobs: TokenLogprobs | None = None
    error: Exception | None = None


def sample(logits: torch.Tensor, rows: Sequence[RowSampler]) -> list[Choice]:
    """The next token of each row from ``logits`` [rows, vocab], raw and float32.

    A row that fails has its error in its Choice; the others are as without it.
    """
    try:
        return _sample(logits, rows)
    except Exception as error:  # noqa: BLE001 - some row's; find out which
        if len(rows) == 1:
            return [Choice(error=error)]
        return [sample(logits[i : i + 1], [row])[0] for i, row in enumerate(rows)]


def _sample(logits: torch.Tensor, rows: Sequence[RowSampler]) -> list[Choice]:
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
    if shaped or drawn:
        _choose(logits, rows, choices, shaped, drawn)
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


def _choose(
    logits: torch.Tensor,
    rows: Sequence[RowSampler],
    choices: list[Choice],
    shaped: list[int],
    drawn: list[int],
) -> None:
    """Choose again for rows whose token is not just the largest logit's."""
    changed = sorted({*shaped, *drawn})
    work = logits[torch.tensor(changed)]
    place = {i: at for at, i in enumerate(changed)}
    for i in shaped:
        rows[i].shape(work[place[i]])
    if shaped:
        best, ids = work.max(dim=-1)
        if not all(math.isfinite(value) for value in best.tolist()):
            raise PoisonError("no token may be drawn")
        for i, token in zip(changed, ids.tolist(), strict=True):
            choices[i].token = token
    if drawn:
        at = [place[i] for i in drawn]
        part = work if len(at) == len(changed) else work[torch.tensor(at)]
        for i, token in zip(drawn, draw(part, [rows[i] for i in drawn]), strict=True):
            choices[i].token = token


def draw(logits: torch.Tensor, rows: Sequence[RowSampler]) -> list[int]:
    """One token for each row by temperature, top-k, top-p and min-p."""
    temperatures = torch.tensor([[row.params.temperature] for row in rows])
    scaled = logits / temperatures
    probs = torch.softmax(scaled, dim=-1)
    draws = [uniform(row.seed, row.position) for row in rows]
    tokens = [-1] * len(rows)
    free = [i for i, row in enumerate(rows) if not _filters(row.params)]
    if free:
        for i, token in zip(free, _inverse(probs[free], [draws[i] for i in free]), strict=True):
            tokens[i] = token
    left = [i for i, row in enumerate(rows) if _filters(row.params)]
    vocab = logits.shape[-1]
    for size in (*(size for size in _PREFIXES if size < vocab), vocab):
        if not left:
            break
        ranked = _rank(scaled[left], probs[left], size)
        left = _draw_ranked(ranked, left, rows, draws, tokens, complete=size == vocab)
    return tokens


def _filters(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0


def _inverse(probs: torch.Tensor, draws: list[float]) -> list[int]:
    """The token at which the running sum passes the draw, in order of ids.

    Sums of blocks first, in float64: a running float32 sum over a vocabulary is off by
    more than a rare token's share.
    """
    rows, vocab = probs.shape
    padded = torch.nn.functional.pad(probs, (0, -vocab % _BLOCK)).view(rows, -1, _BLOCK)
    sums = padded.sum(-1).double().cumsum(-1)
    shares = torch.tensor(draws, dtype=torch.float64).unsqueeze(1)
    block = _passed(sums, shares)
    share = sums.gather(1, block) - torch.where(
        block > 0, sums.gather(1, (block - 1).clamp(min=0)), 0.0
    )
    before = sums.gather(1, block) - share
    inside = padded[torch.arange(rows), block.squeeze(1)].double().cumsum(-1)
    index = _passed(inside, ((shares * sums[:, -1:] - before) / share).clamp(0.0, 1.0))
    found: list[int] = (block * _BLOCK + index).squeeze(1).tolist()
    return found


@dataclass(slots=True)
class _Ranked:
    """The most likely tokens of some rows, best first, each [rows, size]."""

    ids: torch.Tensor
    scaled: torch.Tensor
    probs: torch.Tensor


def _rank(scaled: torch.Tensor, probs: torch.Tensor, size: int) -> _Ranked:
    if size == scaled.shape[-1]:
        values, ids = scaled.sort(dim=-1, descending=True, stable=True)
    else:
        values, ids = scaled.topk(size, dim=-1)
        ids, order = ids.sort(dim=-1)
        values, again = values.gather(1, order).sort(dim=-1, descending=True, stable=True)
        ids = ids.gather(1, again)
    return _Ranked(ids, values, probs.gather(1, ids))


def _draw_ranked(
    ranked: _Ranked,
    left: list[int],
    rows: Sequence[RowSampler],
    draws: list[float],
    tokens: list[int],
    *,
    complete: bool,
) -> list[int]:
    """Draw for rows whose kept tokens are all among the ranked; returns the others."""
    size = ranked.ids.shape[1]
    params = [rows[i].params for i in left]
    top_k = torch.tensor([[p.top_k if p.top_k > 0 else size + 1] for p in params])
    ranks = torch.arange(size)
    probs = ranked.probs.double().masked_fill_(ranks >= top_k, 0.0)
    sums = probs.cumsum(-1)
    limited = top_k <= size
    mass = torch.where(limited, sums[:, -1:], 1.0)
    top_p = torch.tensor([[p.top_p] for p in params], dtype=torch.float64)
    kept = (ranks < top_k) & (((sums - probs) < top_p * mass) | (top_p >= 1.0))
    floor = torch.tensor([[math.log(p.min_p) if p.min_p > 0 else -math.inf] for p in params])
    kept &= ranked.scaled >= ranked.scaled[:, :1] + floor
    kept[:, 0] = True
    # All kept tokens are ranked if one that is ranked is not kept, and no tie with it.
    tied = (ranked.scaled == ranked.scaled[:, -1:]) & kept
    open_end = tied.any(-1).tolist()
    probs.masked_fill_(~kept, 0.0)
    sums = probs.cumsum(-1)
    index = _passed(sums, torch.tensor([[draws[i]] for i in left], dtype=torch.float64))
    found = ranked.ids.gather(1, index).squeeze(1).tolist()
    unresolved = []
    for at, i in enumerate(left):
        if open_end[at] and not complete:
            unresolved.append(i)
        else:
            tokens[i] = found[at]
    return unresolved


def _passed(sums: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Where the running ``sums`` [rows, n] first pass the draws' shares of their ends.

    The end itself is never the target, so the place found adds to the sum.
    """
    ends = sums[:, -1:]
    targets = torch.minimum(draws * ends, torch.nextafter(ends, torch.zeros_like(ends)))
    return torch.searchsorted(sums, targets, right=True)


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
