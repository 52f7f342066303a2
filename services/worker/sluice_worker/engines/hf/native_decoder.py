"""Our own path for the Llama shape over compiled kernels (the package ``sluice_kernels``).

A step is one call, in which the kernels' own threads go through all layers. A row's
numbers depend on its own tokens alone, bit for bit, whatever is computed beside it and
whether a token came as prompt or was generated: nothing is padded, cut or probed for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import sluice_kernels
import torch
from sluice_kernels import PANEL
from torch.nn import functional

from sluice_worker.engines.hf.architecture import DecoderShape, NotThisPath
from sluice_worker.engines.hf.batch import Span
from sluice_worker.engines.hf.checkpoint import Checkpoint
from sluice_worker.engines.hf.decoder_tensors import (
    Affine,
    DecoderTensors,
    LayerTensors,
)
from sluice_worker.engines.hf.kernels import instructions_of, open_pool
from sluice_worker.engines.hf.kv_cache import KvCache, KvShape
from sluice_worker.engines.hf.linear import check_fp16_range
from sluice_worker.engines.hf.native_draws import NativeDraws
from sluice_worker.engines.hf.rotary import rotations

_LANES = 8  # floats of a vector; a head is computed in whole vectors
_ALIGN = 64
_INT8_MAX = 127.0


def instructions_for(shape: DecoderShape, wanted: str) -> str:
    """The instruction set of the kernels for a shape: the one wanted, or the fastest.

    Raises NotThisPath where there are no kernels for the shape, or for this machine.
    """
    try:
        found = instructions_of(wanted)
    except LookupError as reason:
        raise NotThisPath(f"no compiled kernels: {reason}") from reason
    if shape.head_dim % _LANES:
        raise NotThisPath(f"heads of {shape.head_dim} are not whole vectors")
    return found


class NativeWeights:
    """A model's weights in the kernels' layout, and all that their structures point to."""

    def __init__(self, shape: DecoderShape, checkpoint: Checkpoint, precision: str) -> None:
        """Read and pack, one layer at a time. Raises ModelLoadError and Fp16RangeError."""
        self.shape = shape
        self._precision = precision
        self._kept: list[torch.Tensor] = []
        tensors = DecoderTensors(shape, checkpoint)
        embedding = tensors.embedding()
        head = self._packed(Affine(tensors.head(embedding), None))
        kept_in = torch.float16 if precision == "int8" else getattr(torch, precision)
        if kept_in is torch.float16:
            check_fp16_range(embedding)
        self.embedding = embedding.to(kept_in)
        layers = [self._layer(layer) for layer in tensors.layers()]
        self._layers = (sluice_kernels.Layer * shape.layers)(*layers)
        self.model = sluice_kernels.Model(
            layers=shape.layers,
            hidden=shape.hidden,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            intermediate=shape.intermediate,
            kind=sluice_kernels.KINDS[precision],
            norm_eps=shape.norm_eps,
            layer=ctypes.cast(self._layers, ctypes.POINTER(sluice_kernels.Layer)),
            norm=self._at(tensors.norm()),
            head=head,
        )
        self.unused = tensors.unused()

    def _at(self, tensor: torch.Tensor) -> int:
        """The address of a contiguous tensor, which is kept from now on."""
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _layer(self, layer: LayerTensors) -> Any:
        head_norm = layer.head_norm
        return sluice_kernels.Layer(
            input_norm=self._at(layer.input_norm.contiguous()),
            head_norm=None if head_norm is None else self._at(head_norm.contiguous()),
            mlp_norm=self._at(layer.mlp_norm.contiguous()),
            qkv=self._packed(layer.qkv),
            output=self._packed(layer.output),
            gate=self._packed(layer.gate),
            up=self._packed(layer.up),
            down=self._packed(layer.down),
        )

    def _packed(self, affine: Affine) -> Any:
        weight = affine.weight
        scales = None
        if self._precision == "float16":
            check_fp16_range(weight)
        if self._precision == "int8":
            weight, scales = _in_8_bits(weight.float())
        else:
            weight = weight.to(getattr(torch, self._precision))
        return sluice_kernels.Weights(
            panels=self._at(_panels(weight)),
            scales=None if scales is None else self._at(_whole_panels(scales)),
            bias=None if affine.bias is None else self._at(_whole_panels(affine.bias.float())),
            inputs=weight.shape[1],
            outputs=weight.shape[0],
        )


class NativeDecoder:
    """Runner of the Llama shape."""

    def __init__(self, weights: NativeWeights, instructions: str, slots: int, max_len: int) -> None:
        shape = weights.shape
        self._weights = weights
        self._pool = open_pool(instructions, torch.get_num_threads())
        self._memory = torch.empty(0, dtype=torch.uint8)
        self.name = "native"
        self.keeps_prefixes = True
        self.vocab_size = shape.vocab
        self.draw_tokens = NativeDraws(self._pool, shape.vocab)
        self.cache = KvCache(KvShape(shape.layers, shape.kv_heads, shape.head_dim), slots, max_len)
        turns = torch.view_as_real(rotations(shape, self.cache.max_len))
        self._rotations = turns.contiguous()
        self._model = sluice_kernels.Model.from_buffer_copy(weights.model)
        self._model.rotations = self._rotations.data_ptr()

    def forward(self, spans: Sequence[Span]) -> torch.Tensor:
        """As ``Runner.forward``."""
        ids: list[int] = []
        slots: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        for span in spans:
            count = len(span.tokens)
            ids += span.tokens
            slots += [span.slot] * count
            positions += range(span.start, span.start + count)
            wanted += range(len(ids) - span.logits_count, len(ids))
        x = functional.embedding(torch.tensor(ids), self._weights.embedding).float()
        logits = x.new_empty(len(wanted), self.vocab_size)
        places = torch.tensor([*slots, *positions, *wanted], dtype=torch.int32)
        at, cache = places.data_ptr(), self.cache
        step = sluice_kernels.Step(
            rows=len(ids),
            logits_count=len(wanted),
            slots=at,
            positions=at + 4 * len(ids),
            logits_rows=at + 8 * len(ids),
            x=x.data_ptr(),
            logits=logits.data_ptr(),
            cache=cache.address,
            slot_stride=cache.slot_stride,
            layer_stride=cache.layer_stride,
            part_stride=cache.part_stride,
        )
        length = max(positions) + 1
        self._pool.run(self._model, step, length, self._room(len(ids), length))
        return logits

    def copy_prefix(self, source: int, target: int, tokens: int) -> bool:
        """As ``Runner.copy_prefix``."""
        self.cache.copy(source, target, tokens)
        return True

    def release(self, slot: int, keep: int = 0) -> None:
        """As ``Runner.release``."""
        self.cache.release(slot, keep)

    def _room(self, rows: int, length: int) -> int:
        """The address of working memory for a step; it grows to what the largest needs."""
        size = self._pool.memory(self._model, rows, length)
        if size > self._memory.numel():
            self._memory = torch.empty(size, dtype=torch.uint8)
        assert self._memory.data_ptr() % _ALIGN == 0  # as torch allocates
        return self._memory.data_ptr()


def _panels(weight: torch.Tensor) -> torch.Tensor:
    """[outputs / PANEL, inputs, PANEL], zeros behind the last output."""
    outputs, inputs = weight.shape
    padded = functional.pad(weight, (0, 0, 0, -outputs % PANEL))
    return padded.view(-1, PANEL, inputs).transpose(1, 2).contiguous()


def _whole_panels(values: torch.Tensor) -> torch.Tensor:
    return functional.pad(values, (0, -len(values) % PANEL)).contiguous()


def _in_8_bits(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers from -127 to 127, and what they count for each output."""
    scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / _INT8_MAX
    return (weight / scales.unsqueeze(1)).round().to(torch.int8), scales


__all__ = ["NativeDecoder", "NativeWeights", "instructions_for"]
