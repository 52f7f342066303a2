"""Our own path for models of the Llama shape: Llama, Mistral, Qwen2 and Qwen3.

transformers' model code spends more on dispatch than on arithmetic at few rows. Here
a layer is a dozen calls, because weights are laid out for it at load: q, k and v are one
product and so are gate and up; the halves that the rotary embedding pairs are neighbours,
which makes it one complex product in place; and query heads are ordered so that those
which share keys, and attention's output, need no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from sluice_worker.engines.hf.architecture import DecoderShape
from sluice_worker.engines.hf.attention import PAD, Attention, Layout, probe_sharing
from sluice_worker.engines.hf.batch import Span
from sluice_worker.engines.hf.checkpoint import Checkpoint
from sluice_worker.engines.hf.invariance import RowCounts
from sluice_worker.engines.hf.kv_cache import KvCache, KvShape
from sluice_worker.engines.hf.linear import Blocked, Linear, LinearFactory

Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass(slots=True)
class _Layer:
    input_norm: torch.Tensor
    qkv: Product
    head_norm: torch.Tensor | None
    output: Product
    mlp_norm: torch.Tensor
    mlp: Product


class _Mlp:
    """The feed-forward part of a layer."""

    def __init__(self, gate_up: Linear, down: Linear) -> None:
        self._gate_up = gate_up
        self._down = down
        self._width = down.in_features

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        gate_up = self._gate_up(x)
        gate, up = gate_up[:, : self._width], gate_up[:, self._width :]
        return self._down(functional.silu(gate).mul_(up))


@dataclass(slots=True)
class DecoderWeights:
    """What ``read_decoder`` makes of a checkpoint."""

    shape: DecoderShape
    embedding: torch.Tensor
    layers: list[_Layer]
    norm: torch.Tensor
    head: Product
    counts: RowCounts
    unused: list[str]


class Decoder:
    """Runner of the Llama shape."""

    def __init__(self, weights: DecoderWeights, slots: int, max_len: int) -> None:
        shape = weights.shape
        self._weights = weights
        self._shape = shape
        self.name = "decoder"
        self.keeps_prefixes = True
        self.vocab_size = shape.vocab
        self.counts = weights.counts
        kv_shape = KvShape(shape.layers, shape.kv_heads, shape.head_dim)
        group = shape.heads // shape.kv_heads
        self.cache = KvCache(kv_shape, slots, max_len, PAD)
        self.attention = Attention(self.cache, group, probe_sharing(kv_shape, group))
        self.invariant = weights.counts.invariant
        self._rotations = _rotations(shape, self.cache.max_len)

    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        """As ``Runner.forward``."""
        layout = self.attention.layout(spans)
        rows = self.counts.padded(layout.tokens)
        padding = [0] * (rows - layout.tokens)
        x = functional.embedding(
            torch.tensor(layout.ids + padding), self._weights.embedding
        ).float()
        rotations = self._rotations[torch.tensor(layout.positions + padding)]
        places = self.cache.places(layout.slots, layout.positions)
        fill = x.new_zeros(len(padding), self._shape.heads * self._shape.head_dim)
        for index, layer in enumerate(self._weights.layers):
            self._run(layer, index, x, rotations, places[index], layout, fill)
        return self._logits(x, layout.logits_rows)

    def copy_prefix(self, source: int, target: int, tokens: int) -> bool:
        """As ``Runner.copy_prefix``."""
        self.cache.copy(source, target, tokens)
        return True

    def release(self, slot: int, keep: int = 0) -> None:
        """As ``Runner.release``."""
        self.cache.release(slot, keep)

    def _run(
        self,
        layer: _Layer,
        index: int,
        x: torch.Tensor,
        rotations: torch.Tensor,
        places: torch.Tensor,
        layout: Layout,
        fill: torch.Tensor,
    ) -> None:
        """One layer: adds to ``x`` [rows, hidden] in place."""
        shape = self._shape
        rows, wide = x.shape[0], shape.heads * shape.head_dim
        rotated = wide + shape.kv_heads * shape.head_dim
        qkv = layer.qkv(functional.rms_norm(x, (shape.hidden,), layer.input_norm, shape.norm_eps))
        heads = qkv[:, :rotated].view(rows, -1, shape.head_dim)
        if layer.head_norm is not None:
            normal = functional.rms_norm(heads, (shape.head_dim,), None, shape.norm_eps)
            torch.mul(normal, layer.head_norm, out=heads)
        torch.view_as_complex(heads.view(rows, -1, shape.head_dim // 2, 2)).mul_(rotations)
        self.cache.tokens.index_copy_(0, places, qkv[: layout.tokens, wide:])
        query = qkv[:, :wide].view(rows, -1, shape.kv_heads, shape.head_dim)
        parts = self.attention.attend(index, query, layout)
        if len(fill):
            parts.append(fill)
        x.add_(layer.output(parts[0] if len(parts) == 1 else torch.cat(parts)))
        x.add_(layer.mlp(functional.rms_norm(x, (shape.hidden,), layer.mlp_norm, shape.norm_eps)))

    def _logits(self, x: torch.Tensor, rows: list[int]) -> torch.Tensor:
        if not rows:
            return x.new_empty(0, self.vocab_size)
        padding = [rows[0]] * (self.counts.padded(len(rows)) - len(rows))
        last = x[torch.tensor(rows + padding)]
        last = functional.rms_norm(
            last, (self._shape.hidden,), self._weights.norm, self._shape.norm_eps
        )
        return self._weights.head(last)[: len(rows)]


def _rotations(shape: DecoderShape, length: int) -> torch.Tensor:
    """e^(i angle) of every position and pair, [length, 1, head_dim / 2], complex."""
    angles = torch.arange(length).unsqueeze(1).float() * shape.inverse_frequencies
    cosine, sine = angles.cos() * shape.rope_scale, angles.sin() * shape.rope_scale
    return torch.complex(cosine, sine).unsqueeze(1)


def read_decoder(
    shape: DecoderShape, checkpoint: Checkpoint, pack: LinearFactory
) -> DecoderWeights:
    """Read and pack the weights, one layer at a time. Raises ModelLoadError."""
    reader = _Reader(shape, checkpoint, pack)
    embedding = reader.read("model.embed_tokens.weight")
    head_name = "lm_head.weight"
    head = pack(reader.read(head_name) if head_name in checkpoint else embedding)
    embedding = pack.embedding(embedding)
    layers = [reader.layer(f"model.layers.{index}.") for index in range(shape.layers)]
    norm = reader.read("model.norm.weight").float()
    counts = pack.row_counts()
    for layer in layers:
        for name in ("qkv", "output", "mlp"):
            setattr(layer, name, Blocked(getattr(layer, name), counts))
    unused = [name for name in checkpoint.names() if name not in reader.used]
    return DecoderWeights(shape, embedding, layers, norm, Blocked(head, counts), counts, unused)


class _Reader:
    """Reads tensors and remembers which."""

    def __init__(self, shape: DecoderShape, checkpoint: Checkpoint, pack: LinearFactory) -> None:
        self._shape = shape
        self._checkpoint = checkpoint
        self._pack = pack
        self.used: set[str] = set()

    def read(self, name: str) -> torch.Tensor:
        """The tensor ``name``."""
        self.used.add(name)
        return self._checkpoint.read(name)

    def layer(self, prefix: str) -> _Layer:
        """All of the layer whose tensors begin with ``prefix``, packed."""
        shape, attention, mlp = self._shape, prefix + "self_attn.", prefix + "mlp."
        qkv_bias = self._qkv(attention, "bias") if shape.qkv_bias else None
        output = self.read(attention + "o_proj.weight")
        output = output[:, _output_order(shape)]
        return _Layer(
            input_norm=self.read(prefix + "input_layernorm.weight").float(),
            qkv=self._pack(self._qkv(attention, "weight"), qkv_bias),
            head_norm=self._head_norm(attention) if shape.head_norms else None,
            output=self._pack(output, self._bias(attention + "o_proj", shape.output_bias)),
            mlp_norm=self.read(prefix + "post_attention_layernorm.weight").float(),
            mlp=self._mlp(mlp),
        )

    def _mlp(self, prefix: str) -> _Mlp:
        biased = self._shape.mlp_bias
        gate_up = self._pack(
            self._gate_up(prefix, "weight"), self._gate_up(prefix, "bias") if biased else None
        )
        down = self.read(prefix + "down_proj.weight")
        return _Mlp(gate_up, self._pack(down, self._bias(prefix + "down_proj", biased)))

    def _qkv(self, prefix: str, kind: str) -> torch.Tensor:
        query = self.read(f"{prefix}q_proj.{kind}")[_query_order(self._shape)]
        key = self.read(f"{prefix}k_proj.{kind}")[_key_order(self._shape)]
        return torch.cat([query, key, self.read(f"{prefix}v_proj.{kind}")])

    def _gate_up(self, prefix: str, kind: str) -> torch.Tensor:
        return torch.cat([self.read(f"{prefix}{part}_proj.{kind}") for part in ("gate", "up")])

    def _bias(self, name: str, there: bool) -> torch.Tensor | None:
        return self.read(name + ".bias") if there else None

    def _head_norm(self, prefix: str) -> torch.Tensor:
        """Weights of q_norm for every query head and of k_norm for every key head."""
        shape, pairs = self._shape, _pair_order(self._shape.head_dim)
        query = self.read(prefix + "q_norm.weight").float()[pairs]
        key = self.read(prefix + "k_norm.weight").float()[pairs]
        return torch.cat([query.repeat(shape.heads, 1), key.repeat(shape.kv_heads, 1)])


def _pair_order(head_dim: int) -> torch.Tensor:
    """Puts what the rotary embedding pairs, i and i + head_dim / 2, side by side."""
    return torch.arange(head_dim).view(2, -1).t().flatten()


def _key_order(shape: DecoderShape) -> torch.Tensor:
    heads = torch.arange(shape.kv_heads).unsqueeze(1) * shape.head_dim
    return (heads + _pair_order(shape.head_dim)).flatten()


def _query_order(shape: DecoderShape) -> torch.Tensor:
    return (_grouped_heads(shape) * shape.head_dim + _pair_order(shape.head_dim)).flatten()


def _output_order(shape: DecoderShape) -> torch.Tensor:
    return (_grouped_heads(shape) * shape.head_dim + torch.arange(shape.head_dim)).flatten()


def _grouped_heads(shape: DecoderShape) -> torch.Tensor:
    """Query heads from [kv_heads, group] to [group, kv_heads] order, as a column."""
    return torch.arange(shape.heads).view(shape.kv_heads, -1).t().reshape(-1, 1)


__all__ = ["Decoder", "DecoderWeights", "Linear", "read_decoder"]
