"""The path for every other causal model: its own forward and cache, a row at a time.

Slow, since rows do not share a pass through the weights, and right by construction.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from sluice_worker.engines.hf.batch import Span


class SoloModel:
    """Runner over a transformers model and the caches that it makes itself."""

    def __init__(self, model: Any, vocab_size: int) -> None:
        self.name = "solo"
        self.keeps_prefixes = False  # some caches, such as a sliding window's, have no beginning
        self.vocab_size = vocab_size
        self._model = model
        self._caches: dict[int, Any] = {}
        accepted = inspect.signature(model.forward).parameters
        self._extra = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        """As ``Runner.forward``."""
        rows = []
        for span in spans:
            logits = self._compute(span)
            if span.logits_count:
                rows.append(logits[-span.logits_count :])
        return torch.cat(rows) if rows else torch.empty(0, self.vocab_size)

    def copy_prefix(self, source: int, target: int, tokens: int) -> bool:
        """As ``Runner.copy_prefix``: not possible."""
        return False

    def release(self, slot: int, keep: int = 0) -> None:
        """As ``Runner.release``."""
        self._caches.pop(slot, None)

    def _compute(self, span: Span) -> torch.Tensor:
        """Logits after the span's last tokens, [at least as many as it wants, vocab].

        Generated tokens go one by one, as at first.
        """
        extra = {} if span.wants_all else self._extra
        parts = [[token] for token in span.tokens] if span.decode else [list(span.tokens)]
        done = span.start
        for part in parts:
            result = self._model(
                input_ids=torch.tensor([part]),
                attention_mask=torch.ones(1, done + len(part), dtype=torch.long),
                past_key_values=self._caches.get(span.slot),
                use_cache=True,
                **extra,
            )
            self._caches[span.slot] = result.past_key_values
            done += len(part)
        logits: torch.Tensor = result.logits[0, -max(1, span.logits_count) :].float()
        return logits
