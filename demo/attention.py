"""Causal attention for training on a CPU, where rows are short.

PyTorch's fused attention takes little memory, but its backward pass in bfloat16 is slow on a CPU:
with rows of 256 tokens it takes twice the time of plain matrix products, with 512 half as much
again. With 1024 both take the same.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, LlamaForCausalLM

NAME = "sluice_blocks"
BLOCK = 256
LONGEST = 512
"""The longest rows that are done in blocks of queries; longer ones are left to PyTorch."""


def in_blocks(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A block of queries at a time, each with the keys up to it. All are (rows, length, width)."""
    length = query.shape[1]
    size = min(BLOCK, length)
    done = []
    for start in range(0, length, size):
        end = min(start + size, length)
        mask = torch.full((1, end - start, end), -math.inf, dtype=query.dtype).triu(start + 1)
        keys = key[:, :end].transpose(1, 2)
        weights = torch.softmax(torch.baddbmm(mask, query[:, start:end], keys), -1)
        done.append(torch.bmm(weights, value[:, :end]))
    return torch.cat(done, 1)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # None: rows are packed, without padding
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    groups = module.num_key_value_groups
    key, value = (part.repeat_interleave(groups, 1) for part in (key, value))
    rows, heads, length, width = query.shape
    if length > LONGEST:
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling
        )
        return out.transpose(1, 2).contiguous(), None
    parts = (query * scaling, key, value)
    with torch.autocast("cpu", enabled=False):  # it would compute the softmax in float32
        flat = (part.to(value.dtype).reshape(rows * heads, length, width) for part in parts)
        out = in_blocks(*flat).reshape(rows, heads, length, width)
    return out.transpose(1, 2).contiguous(), None


def use_blocks(model: LlamaForCausalLM) -> None:
    """Have a model train with it. What is saved of the model does not name it."""
    AttentionInterface.register(NAME, _attention)
    model.set_attn_implementation(NAME)
