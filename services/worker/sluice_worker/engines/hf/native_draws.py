"""Draws tokens with the compiled kernels: no ranking of a vocabulary, and no copy of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import sluice_kernels
import torch

from sluice_worker.engines.hf.draws import uniform
from sluice_worker.engines.hf.row_sampler import RowSampler
from sluice_worker.engines.hf.sampler import PoisonError


class NativeDraws:
    """Draws from logits of ``vocab_size`` tokens, by a pool's threads. See ``DrawTokens``."""

    def __init__(self, pool: sluice_kernels.Pool, vocab_size: int) -> None:
        self._pool = pool
        self._vocab_size = vocab_size
        self._memory = torch.empty(pool.draw_memory(vocab_size), dtype=torch.uint8)

    def __call__(self, given: Sequence[torch.Tensor], rows: Sequence[RowSampler]) -> list[int]:
        """As ``DrawTokens``. Raises PoisonError where no token can be drawn."""
        draws = [self._draw(logits, row) for logits, row in zip(given, rows, strict=True)]
        tokens = self._pool.draw(draws, self._vocab_size, self._memory.data_ptr())
        if min(tokens) < 0:
            raise PoisonError("logits divided by their temperature are not finite")
        return tokens

    def _draw(self, logits: torch.Tensor, row: RowSampler) -> sluice_kernels.Draw:
        expected = logits.shape == (self._vocab_size,) and logits.dtype is torch.float32
        if not expected or not logits.is_contiguous():
            raise ValueError(
                f"logits are {logits.dtype} of {list(logits.shape)}, not {self._vocab_size} floats"
            )
        params = row.params
        return sluice_kernels.Draw(
            logits.data_ptr(),
            uniform(row.seed, row.position),
            params.top_p,
            params.temperature,
            math.log(params.min_p) if params.min_p > 0 else -math.inf,
            min(params.top_k, self._vocab_size),
        )
