"""Our own path for models of the Llama shape: Llama, Mistral, Qwen2 and Qwen3.

transformers' model code spends more on dispatch than on arithmetic at few rows. Here
a layer is a dozen calls, because weights are laid out for it at load (``decoder_tensors.py``).
This is the path of CPUs that ``native_decoder.py`` has no kernels for, and of bfloat16 on those
with instructions for it.
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
from sluice_worker.engines.hf.decoder_tensors import Affine, DecoderTensors, LayerTensors
from sluice_worker.engines.hf.invariance import RowCounts
from sluice_worker.engines.hf.kv_cache import KvCache, KvShape
from sluice_worker.engines.hf.linear import Blocked, Linear, LinearFactory
from sluice_worker.engines.hf.rotary import rotations

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
        self._rotations = rotations(shape, self.cache.max_len)

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
        self.cache.write(places, qkv[: layout.tokens, wide:])
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


def read_decoder(
    shape: DecoderShape, checkpoint: Checkpoint, pack: LinearFactory
) -> DecoderWeights:
    """Read and pack the weights, one layer at a time. Raises ModelLoadError."""
    tensors = DecoderTensors(shape, checkpoint)
    embedding = tensors.embedding()
    head = pack(tensors.head(embedding))
    embedding = pack.embedding(embedding)
    layers = [_packed(layer, pack) for layer in tensors.layers()]
    counts = pack.row_counts()
    for layer in layers:
        for name in ("qkv", "output", "mlp"):
            setattr(layer, name, Blocked(getattr(layer, name), counts))
    norm = tensors.norm()
    return DecoderWeights(
        shape, embedding, layers, norm, Blocked(head, counts), counts, tensors.unused()
    )


def _packed(layer: LayerTensors, pack: LinearFactory) -> _Layer:
    def packed(affine: Affine) -> Linear:
        return pack(affine.weight, affine.bias)

    return _Layer(
        input_norm=layer.input_norm,
        qkv=packed(layer.qkv),
        head_norm=layer.head_norm,
        output=packed(layer.output),
        mlp_norm=layer.mlp_norm,
        mlp=_Mlp(packed(_joined(layer.gate, layer.up)), packed(layer.down)),
    )


def _joined(gate: Affine, up: Affine) -> Affine:
    bias = None if gate.bias is None or up.bias is None else torch.cat([gate.bias, up.bias])
    return Affine(torch.cat([gate.weight, up.weight]), bias)


__all__ = ["Decoder", "DecoderWeights", "Linear", "read_decoder"]
