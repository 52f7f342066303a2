"""transformers' model code over packed rows, with our cache and our attention.

A step is one sequence of all rows' tokens, each with its own position; the model code
calls our function where it would attend. Only for model types that were tested, and
only if a check at load agrees with the model's own attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from sluice_worker.engines.hf.architecture import NotThisPath
from sluice_worker.engines.hf.attention import PAD, Attention, Layout, probe_sharing
from sluice_worker.engines.hf.batch import Span
from sluice_worker.engines.hf.invariance import RowCounts
from sluice_worker.engines.hf.kv_cache import KvCache, KvShape
from sluice_worker.engines.hf.transformers_model import text_config, use_counts

TESTED = ("gpt2", "gpt_neox", "phi", "olmo", "olmo2", "granite", "starcoder2", "llama", "mistral")
_NAME = "sluice"
_HARMLESS = {"dropout", "is_causal", "position_ids", "use_cache", "output_attentions"}


def packed_shape(config: Any, max_model_len: int) -> KvShape:
    """The shape of the cache. Raises NotThisPath if the model was not tested so."""
    config = text_config(config)
    if config.model_type not in TESTED:
        raise NotThisPath(f"{config.model_type} was not tested with packed rows")
    if getattr(config, "add_cross_attention", False):
        raise NotThisPath("cross attention")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in ("default", "linear", "llama3", "yarn"):
        raise NotThisPath(f"rope type {rope.get('rope_type')}")
    window = getattr(config, "sliding_window", None)
    if window is not None and window < max_model_len:
        raise NotThisPath("a sliding window below max_model_len")
    return cache_shape(config)


def cache_shape(config: Any) -> KvShape:
    """The shape of the keys and values that a config tells. AttributeError if it does not."""
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    return KvShape(config.num_hidden_layers, kv_heads, head_dim)


class PackedModel:
    """Runner over a transformers model whose linear layers were packed."""

    def __init__(
        self, model: Any, shape: KvShape, counts: RowCounts, slots: int, max_len: int
    ) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(_NAME, _attend)
        config = text_config(model.config)
        group = config.num_attention_heads // shape.heads
        self.name = "packed"
        self.keeps_prefixes = True
        self._model = model
        self._shape = shape
        self.counts = counts
        self.invariant = counts.invariant
        self.vocab_size = int(model.get_output_embeddings().out_features)
        self._group = group
        self.cache = KvCache(shape, slots, max_len, PAD)
        self.attention = Attention(self.cache, group, probe_sharing(shape, group))
        self._layout: Layout | None = None
        self._places: torch.Tensor | None = None
        self.max_len = max_len
        use_counts(model, counts)
        for module in model.modules():
            if hasattr(module, "layer_idx"):
                module.sluice_runner = self
        model.set_attn_implementation(_NAME)

    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        """As ``Runner.forward``."""
        layout = self._layout = self.attention.layout(spans)
        self._places = self.cache.places(layout.slots, layout.positions)
        padding = [0] * (self.counts.padded(layout.tokens) - layout.tokens)
        wanted = layout.logits_rows
        extra = [0] * (self.counts.padded(len(wanted)) - len(wanted))
        result = self._model(
            input_ids=torch.tensor([layout.ids + padding]),
            position_ids=torch.tensor([layout.positions + padding]),
            use_cache=False,
            logits_to_keep=torch.tensor(wanted + extra, dtype=torch.long),
        )
        logits: torch.Tensor = result.logits[0, : len(wanted)]
        return logits.float()

    def copy_prefix(self, source: int, target: int, tokens: int) -> bool:
        """As ``Runner.copy_prefix``."""
        self.cache.copy(source, target, tokens)
        return True

    def release(self, slot: int, keep: int = 0) -> None:
        """As ``Runner.release``."""
        self.cache.release(slot, keep)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
    ) -> torch.Tensor:
        """Attend with query [1, heads, rows, head_dim]; gives [1, rows, heads, head_dim]."""
        assert self._layout is not None
        assert self._places is not None
        tokens, rows = self._layout.tokens, query.shape[2]
        pair = torch.stack([key[0, :, :tokens], value[0, :, :tokens]])
        kept = pair.permute(2, 0, 1, 3).reshape(tokens, self._shape.width)
        self.cache.write(self._places[layer], kept)
        heads, dim = self._shape.heads, self._shape.head_dim
        grouped = query[0].view(heads, self._group, rows, dim).permute(2, 1, 0, 3)
        out = query.new_zeros(1, rows, heads, self._group, dim)
        parts = self.attention.attend(layer, grouped, self._layout, scaling)
        joined = torch.cat(parts).view(tokens, self._group, heads, dim)
        out[0, :tokens] = joined.transpose(1, 2)
        return out.view(1, rows, heads * self._group, dim)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' model code calls to attend."""
    unknown = sorted(
        name
        for name, value in others.items()
        if name not in _HARMLESS and not _void(name, value, module)
    )
    if attention_mask is not None or unknown:
        raise NotThisPath(f"attention with {', '.join(unknown) or 'a mask'}")
    runner: PackedModel = module.sluice_runner
    return runner.attend(module.layer_idx, query, key, value, scaling), None


def _void(name: str, value: Any, module: Any) -> bool:
    """Whether an argument of attention changes nothing."""
    if name == "sliding_window" and value is not None:
        return bool(value >= module.sluice_runner.max_len)
    return value is None or value is False
