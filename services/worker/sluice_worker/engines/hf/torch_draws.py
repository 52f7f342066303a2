"""Draws tokens with torch's operators, where there are no kernels for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sluice_worker.engines.base import SamplingParams
from sluice_worker.engines.hf.draws import uniform
from sluice_worker.engines.hf.row_sampler import RowSampler

_PREFIXES = (128, 2048)
_BLOCK = 256


def draw_by_torch(given: Sequence[torch.Tensor], rows: Sequence[RowSampler]) -> list[int]:
    """See ``sampler.DrawTokens``."""
    logits = torch.stack(list(given))
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
