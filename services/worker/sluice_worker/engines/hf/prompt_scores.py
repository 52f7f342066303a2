"""Log-probabilities of a prompt's own tokens."""

from __future__ import annotations

import torch

from sluice_worker.engines.base import PromptLogprobs, TokenLogprobs
from sluice_worker.engines.hf.batch import Span
from sluice_worker.engines.hf.row import Row
from sluice_worker.engines.hf.sampler import PoisonError


def prompt_logprobs(row: Row, span: Span, logits: torch.Tensor) -> PromptLogprobs:
    """Those of the tokens that follow the span's, as far as the row has not told of them.

    ``logits`` [tokens, vocab] are those after each token of the span. Raises PoisonError when
    they are not numbers.
    """
    assert row.untold is not None
    after = span.start + len(span.tokens)
    end = min(after + 1, len(row.prompt))  # nothing of the prompt follows its last token
    first = max(row.untold, span.start + 1)
    begin = first - 1 - span.start
    scores = torch.log_softmax(logits[begin : begin + end - first], dim=-1)
    if scores.isnan().any():
        raise PoisonError("logits of the prompt are not finite")
    wanted = torch.tensor(row.prompt[first:end]).unsqueeze(1)
    values = scores.gather(1, wanted).squeeze(1).tolist()
    count = min(row.request.sampling.prompt_logprobs or 0, scores.shape[-1])
    best, ids = scores.topk(count)
    tops = zip(ids.tolist(), best.tolist(), strict=True)
    entries = [
        TokenLogprobs(value, tuple(zip(top_ids, top_values, strict=True)))
        for value, (top_ids, top_values) in zip(values, tops, strict=True)
    ]
    row.told(end)
    return PromptLogprobs(first, entries)


def joined(before: PromptLogprobs | None, more: PromptLogprobs) -> PromptLogprobs:
    """Both as one: the second goes on where the first ends."""
    if before is None:
        return more
    return PromptLogprobs(before.position, [*before.entries, *more.entries])
