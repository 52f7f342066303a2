"""Checks a runner against transformers' own computation before it may serve."""

from __future__ import annotations

from typing import Any

import torch

from sluice_worker.engines.hf.batch import Runner, Span

_LENGTHS = (37, 9, 1)
_TOLERANCE = 2e-3


def agrees(runner: Runner, references: list[torch.Tensor], prompts: list[list[int]]) -> bool:
    """Whether the runner's logits are the references, in a mix of prefill and decode."""
    try:
        results = _run(runner, prompts)
    finally:
        for slot in range(len(prompts)):
            runner.release(slot)
    return all(_close(a, b) for a, b in zip(results, references, strict=True))


def prompts_for(vocab_size: int, slots: int, max_len: int) -> list[list[int]]:
    """A few random prompts, no more than slots and no longer than ``max_len``."""
    generator = torch.Generator().manual_seed(7)
    lengths = [min(length, max_len) for length in _LENGTHS[:slots]]
    return [torch.randint(vocab_size, (n,), generator=generator).tolist() for n in lengths]


def references_of(model: Any, prompts: list[list[int]]) -> list[torch.Tensor]:
    """The model's logits after each prompt, in one pass without a cache."""
    return [
        model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].float().clone()
        for prompt in prompts
    ]


def _run(runner: Runner, prompts: list[list[int]]) -> list[torch.Tensor]:
    """Feed the prompts in several steps: two tiles, then tokens as if generated."""
    results: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
    cuts = [sorted({0, n // 2, max(n - 3, 1), n - 1, n}) for n in map(len, prompts)]
    for turn in range(max(map(len, cuts)) - 1):
        spans, ends = [], []
        for slot, (prompt, cut) in enumerate(zip(prompts, cuts, strict=True)):
            if turn + 1 < len(cut):
                start, end = cut[turn], cut[turn + 1]
                last = end == len(prompt)
                spans.append(Span(slot, start, prompt[start:end], turn >= 2, last))
                if last:
                    ends.append(slot)
        for slot, logits in zip(ends, runner.forward(spans), strict=True):
            results[slot] = logits
    return results


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    scale = max(1.0, b.abs().max().item())
    return bool((a - b).abs().max() <= _TOLERANCE * scale)
