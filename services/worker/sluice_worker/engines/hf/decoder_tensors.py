"""The tensors of a checkpoint of the Llama shape, laid out for our own paths.

q, k and v become one product; the halves that the rotary embedding pairs become neighbours, which
makes it one complex product in place; and query heads are ordered so that those which share keys
need no copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from sluice_worker.engines.hf.architecture import DecoderShape
from sluice_worker.engines.hf.checkpoint import Checkpoint
from sluice_worker.engines.hf.options import ModelLoadError


@dataclass(frozen=True, slots=True)
class Affine:
    """Weight [outputs, inputs] and bias [outputs] of a linear layer."""

    weight: torch.Tensor
    bias: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class LayerTensors:
    """One layer. Norms are float32; ``head_norm`` is [heads + kv_heads, head_dim]."""

    input_norm: torch.Tensor
    qkv: Affine
    head_norm: torch.Tensor | None
    output: Affine
    mlp_norm: torch.Tensor
    gate: Affine
    up: Affine
    down: Affine


class DecoderTensors:
    """Reads tensors, one layer at a time, and remembers which. Raises ModelLoadError."""

    def __init__(self, shape: DecoderShape, checkpoint: Checkpoint) -> None:
        self._shape = shape
        self._checkpoint = checkpoint
        self._used: set[str] = set()

    def embedding(self) -> torch.Tensor:
        """The embedding, [vocab, hidden]."""
        return self._read("model.embed_tokens.weight", self._shape.vocab, self._shape.hidden)

    def head(self, embedding: torch.Tensor) -> torch.Tensor:
        """The language head, [vocab, hidden]; the embedding where they are tied."""
        name = "lm_head.weight"
        if name not in self._checkpoint:
            return embedding
        return self._read(name, self._shape.vocab, self._shape.hidden)

    def norm(self) -> torch.Tensor:
        """The last norm, [hidden], float32."""
        return self._read("model.norm.weight", self._shape.hidden).float()

    def layers(self) -> Iterator[LayerTensors]:
        """All layers in order."""
        return (self._layer(f"model.layers.{index}.") for index in range(self._shape.layers))

    def unused(self) -> list[str]:
        """Names of what was not read."""
        return [name for name in self._checkpoint.names() if name not in self._used]

    def _read(self, name: str, *shape: int) -> torch.Tensor:
        """The tensor ``name``, which must be of ``shape``: what computes with it trusts that."""
        self._used.add(name)
        tensor = self._checkpoint.read(name)
        if tensor.shape != shape:
            raise ModelLoadError(
                f"the tensor {name} is {list(tensor.shape)}; by config.json it is {list(shape)}",
                "download the model again, or mend its config.json",
            )
        return tensor

    def _layer(self, prefix: str) -> LayerTensors:
        shape, attention, mlp = self._shape, prefix + "self_attn.", prefix + "mlp."
        hidden, inner, wide = shape.hidden, shape.intermediate, shape.heads * shape.head_dim
        output = self._affine(attention + "o_proj", hidden, wide, shape.output_bias)
        return LayerTensors(
            input_norm=self._read(prefix + "input_layernorm.weight", hidden).float(),
            qkv=self._qkv(attention),
            head_norm=self._head_norm(attention) if shape.head_norms else None,
            output=Affine(output.weight[:, _output_order(shape)], output.bias),
            mlp_norm=self._read(prefix + "post_attention_layernorm.weight", hidden).float(),
            gate=self._affine(mlp + "gate_proj", inner, hidden, shape.mlp_bias),
            up=self._affine(mlp + "up_proj", inner, hidden, shape.mlp_bias),
            down=self._affine(mlp + "down_proj", hidden, inner, shape.mlp_bias),
        )

    def _affine(self, name: str, outputs: int, inputs: int, biased: bool) -> Affine:
        weight = self._read(name + ".weight", outputs, inputs)
        return Affine(weight, self._read(name + ".bias", outputs) if biased else None)

    def _qkv(self, prefix: str) -> Affine:
        shape = self._shape
        wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        query = self._affine(prefix + "q_proj", wide, shape.hidden, shape.qkv_bias)
        key = self._affine(prefix + "k_proj", narrow, shape.hidden, shape.qkv_bias)
        value = self._affine(prefix + "v_proj", narrow, shape.hidden, shape.qkv_bias)
        queries, keys = _query_order(shape), _key_order(shape)
        bias = None
        if query.bias is not None and key.bias is not None and value.bias is not None:
            bias = torch.cat([query.bias[queries], key.bias[keys], value.bias])
        return Affine(torch.cat([query.weight[queries], key.weight[keys], value.weight]), bias)

    def _head_norm(self, prefix: str) -> torch.Tensor:
        """Weights of q_norm for every query head and of k_norm for every key head."""
        shape, pairs = self._shape, _pair_order(self._shape.head_dim)
        query = self._read(prefix + "q_norm.weight", shape.head_dim).float()[pairs]
        key = self._read(prefix + "k_norm.weight", shape.head_dim).float()[pairs]
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
