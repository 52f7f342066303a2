"""Linear layers with weights of 8 bits, and inputs of 16.

A weight is an integer from -127 to 127 times a scale of its output. An input row is rounded to
integers of 16 bits by a scale of its own and cut into two digits of 8 bits, and both are rows
of one product of oneDNN's: integers times integers, summed in 32 bits, which is exact. So
the weights' rounding is all that is lost, and a row's result does not depend on the rows
beside it. The second digit costs little, for a step of few rows waits for the weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

_WEIGHT_MAX = 127
_DIGIT = 256
_ZERO = 128  # a digit is from -128 to 127 and is kept as a byte with this added
_INPUT_MAX = 127 * _DIGIT + 127
# Added before digits are cut: 128 in both of them, and a half, so that cutting rounds.
_OFFSET = _ZERO * _DIGIT + _ZERO + 0.5


class Int8Linear:
    """oneDNN: weights in 8 bits, inputs in 16 bits, sums in 32 bits, outputs in float32."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        weight = weight.float().contiguous()  # oneDNN takes the memory as it lies
        self.out_features, self.in_features = weight.shape
        self._bias = None if bias is None else bias.float().contiguous()
        scales = weight.abs().amax(1) / _WEIGHT_MAX
        whole = weight / scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)
        self._packed = torch.ops.onednn.qlinear_prepack(whole.round_().to(torch.int8), None)
        # Of the product's outputs, with the inputs' largest integer divided out.
        self._scales = scales / _INPUT_MAX
        self._zeros = torch.zeros(self.out_features, dtype=torch.int32)
        self._offset = torch.tensor(_OFFSET)
        self._input_max = torch.tensor(float(_INPUT_MAX))
        product: Callable[..., torch.Tensor] = torch.ops.onednn.qlinear_pointwise.default
        self._product = product

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """A row of zeros gives zeros, one with a number that is none gives none."""
        rows = x.shape[0]
        largest = x.abs().amax(1, True)
        digits = self._digits(x, self._input_max / largest)
        y = self._product(
            digits, 1.0, _ZERO, self._packed, self._scales, self._zeros, None, 1.0, 0,
            torch.float32, "none", [], "",
        )  # fmt: skip
        y = y[:rows].add_(y[rows:], alpha=_DIGIT).mul_(largest)
        return y if self._bias is None else y.add_(self._bias)

    def _digits(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """The low digits of all rows, then the high ones: [2 rows, in_features], bytes."""
        rows, width = x.shape
        whole = torch.addcmul(self._offset, x, scale).to(torch.int32)
        digits = torch.empty(2 * rows, width, dtype=torch.uint8)
        digits[:rows].copy_(whole)  # a byte of it, the lowest
        digits[rows:].copy_(whole.bitwise_right_shift_(8))
        return digits


def is_exact() -> bool:
    """Whether oneDNN's products of bytes are exact on this CPU.

    Without instructions for them (VNNI, AMX) sums of two products are cut to 16 bits.
    """
    try:
        linear = Int8Linear(torch.ones(64, 256), None)
        x = torch.cat([torch.ones(3, 256), -torch.ones(3, 256)])
        difference = linear(x) - 256 * x[:, :1]
    except RuntimeError:  # no such kernel
        return False
    return bool(difference.abs().max() < 1e-3)
