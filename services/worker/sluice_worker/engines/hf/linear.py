"""Linear layers over packed weights.

``functional.linear`` packs its weights anew in every call, which at few rows costs more than
the product. FBGEMM keeps float16 weights packed and computes in float32; oneDNN does
the same for float32, and for bfloat16 with inputs and outputs rounded to it. Weights of 8 bits
are in ``linear_int8.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.nn import functional

from sluice_worker.engines.hf.invariance import (
    NOT_INVARIANT,
    RowCounts,
    RowKernel,
    agreeing_counts,
    common_counts,
)
from sluice_worker.engines.hf.linear_int8 import Int8Linear, is_exact

_FP16_MAX = 65504.0
_PROBE_WIDTH = 2048


class Fp16RangeError(Exception):
    """A weight is too large for float16."""


def check_fp16_range(weight: torch.Tensor) -> None:
    """Raises Fp16RangeError."""
    low, high = torch.aminmax(weight.masked_fill(~torch.isfinite(weight), 0.0))
    if max(-low.item(), high.item()) > _FP16_MAX:
        raise Fp16RangeError


class Linear(Protocol):
    """``y = x W^T + b`` for x [rows, in_features], float32, contiguous."""

    in_features: int
    out_features: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``y`` for ``x``."""
        ...


class Fp16Linear:
    """FBGEMM: weights in float16, arithmetic in float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        weight = weight.float()
        check_fp16_range(weight)
        self.out_features, self.in_features = weight.shape
        bias = None if bias is None else bias.float()
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        self._product: Callable[..., torch.Tensor] = torch.ops.quantized.linear_dynamic_fp16.default

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x, self._packed)


class Fp32Linear:
    """oneDNN: float32 weights, reordered once."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out_features, self.in_features = weight.shape
        self._bias = None if bias is None else bias.float().contiguous()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001
            weight.float().contiguous(), None
        )
        product: Callable[..., torch.Tensor] = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
        self._product = product

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x, self._packed, self._bias, "none", [], "")


class Bf16Linear:
    """oneDNN: weights, inputs and outputs in bfloat16, sums in float32.

    Twice the speed of float32 at many rows, for one digit less than float16 weights give.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out_features, self.in_features = weight.shape
        self._bias = None if bias is None else bias.bfloat16().contiguous()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(  # noqa: SLF001
            weight.bfloat16().contiguous(), None
        )
        product: Callable[..., torch.Tensor] = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
        self._product = product

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x.bfloat16(), self._packed, self._bias, "none", [], "").float()


class PlainLinear:
    """Where no packed kernel is: ``functional.linear``."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out_features, self.in_features = weight.shape
        self._weight = weight.float()
        self._bias = None if bias is None else bias.float()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight, self._bias)


KERNELS: dict[str, Callable[[torch.Tensor, torch.Tensor | None], Linear]] = {
    "fbgemm-fp16": Fp16Linear,
    "onednn-fp32": Fp32Linear,
    "onednn-bf16": Bf16Linear,
    "onednn-int8": Int8Linear,
    "plain-fp32": PlainLinear,
}


_EMBEDDINGS = {
    "fbgemm-fp16": torch.float16,
    "onednn-bf16": torch.bfloat16,
    "onednn-int8": torch.float16,
}
"""What embeddings are kept in beside a kernel, if not float32."""


def kernel_for(precision: str) -> str:
    """The kernel for weights of a precision; LookupError if there is none here."""
    if precision == "float16":
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            raise LookupError("this CPU or build of torch has no FBGEMM")
        return "fbgemm-fp16"
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if precision == "bfloat16":
        if not has_bfloat16():
            raise LookupError("this CPU has no AVX-512 instructions for bfloat16")
        return "onednn-bf16"
    if precision == "int8":
        if not (available and is_exact()):
            raise LookupError("this CPU has no instructions for products of 8 bits (VNNI or AMX)")
        return "onednn-int8"
    return "onednn-fp32" if available else "plain-fp32"


def has_bfloat16() -> bool:
    """Whether oneDNN has fast products for bfloat16: without the instructions they are slow."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001


class LinearFactory:
    """Packs linear layers with one kernel and finds row counts that suit them all."""

    def __init__(self, kernel: str) -> None:
        self._embedding = _EMBEDDINGS.get(kernel, torch.float32)
        self._pack = KERNELS[kernel]
        self._agreeing: dict[tuple[int, int], frozenset[int]] = {}

    def __call__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
        """Pack a layer of ``weight`` [out_features, in_features]."""
        linear = self._pack(weight, bias)
        shape = _probe_shape(linear)
        if shape not in self._agreeing:
            self._agreeing[shape] = self._probe(shape)
        return linear

    def embedding(self, weight: torch.Tensor) -> torch.Tensor:
        """An embedding as it is kept. Raises Fp16RangeError."""
        if self._embedding is torch.float16:
            check_fp16_range(weight)
        return weight.to(self._embedding)

    def row_counts(self) -> RowCounts:
        """The counts that are good for all layers made so far, and for what goes into them."""
        widths = {width for _, width in self._agreeing}
        return common_counts(self._agreeing.values(), widths) if self._agreeing else NOT_INVARIANT

    def _probe(self, shape: tuple[int, int]) -> frozenset[int]:
        generator = torch.Generator().manual_seed(1)
        weight = torch.randn(shape, generator=generator) * 0.05
        return agreeing_counts(self._pack(weight, None), shape[1])


def _probe_shape(linear: Linear) -> tuple[int, int]:
    """A shape that takes the same code: outputs are computed in panels, inputs whole."""
    rows = linear.out_features
    return min(rows, _PROBE_WIDTH + rows % 256), linear.in_features


class Blocked:
    """Runs what treats every row alike on parts of the rows, where there are many."""

    def __init__(self, function: RowKernel, counts: RowCounts) -> None:
        self._function = function
        self._counts = counts

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """As the function, for any number of rows."""
        parts = self._counts.cut(x.shape[0])
        if len(parts) < 2:
            return self._function(x)
        return torch.cat([self._function(part) for part in torch.split(x, parts)])


class LinearModule(torch.nn.Module):
    """A linear layer in the place of one of a transformers model."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.linear: Any = linear
        self.in_features = linear.in_features
        self.out_features = linear.out_features

    def use(self, counts: RowCounts) -> None:
        """Pad and cut rows as ``counts`` says from now on."""
        if not isinstance(self.linear, Blocked):
            self.linear = Blocked(self.linear, counts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``y`` [..., out_features] for ``x`` [..., in_features]."""
        rows = x.reshape(-1, self.in_features)
        y: torch.Tensor = self.linear(rows)
        return y.view(*x.shape[:-1], self.out_features)


__all__ = ["KERNELS", "Blocked", "Fp16RangeError", "Linear", "LinearFactory"]
