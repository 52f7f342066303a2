"""The rotary embedding's table, with the same bits on every CPU.

torch takes cosines from its own vector code or from MKL's, each of which has variants by CPU whose
last bits differ. Here they are computed in float64 by products, sums and rounding to whole numbers
alone, which IEEE 754 fixes, and rounded to float32 once.
"""

from __future__ import annotations

import math

import torch

from sluice_worker.engines.hf.architecture import DecoderShape

#: pi / 2 in three parts (as in fdlibm): the first two have 33 bits, so that their products with
#: whole numbers below 2^20 are exact.
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
#: Of the series of sine and cosine; the next ones are below 1e-16 up to pi / 4.
_TERMS = 9
_POSITIONS = 4096  # computed at once


def rotations(shape: DecoderShape, length: int) -> torch.Tensor:
    """e^(i angle) of every position and pair, [length, 1, head_dim / 2], complex64."""
    table = torch.empty(length, 1, len(shape.inverse_frequencies), dtype=torch.complex64)
    for begin in range(0, length, _POSITIONS):
        positions = torch.arange(begin, min(begin + _POSITIONS, length)).unsqueeze(1).float()
        cosine, sine = cosine_and_sine(positions * shape.inverse_frequencies)
        scaled = torch.complex(cosine * shape.rope_scale, sine * shape.rope_scale)
        table[begin : begin + _POSITIONS, 0] = scaled
    return table


def cosine_and_sine(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of angles from 0 to a million, float32, in float32."""
    exact = angles.double()
    quarters = (exact * (2 / math.pi)).round()
    rest = exact
    for part in _HALF_PI:
        rest = rest - quarters * part
    square = rest * rest
    cosine = _series(square, 0)
    sine = _series(square, 1) * rest
    turned = quarters.long() % 4
    odd = turned % 2 == 1
    return (
        torch.where(odd, sine, cosine) * torch.where((turned == 1) | (turned == 2), -1.0, 1.0)
    ).float(), (torch.where(odd, cosine, sine) * torch.where(turned >= 2, -1.0, 1.0)).float()


def _series(square: torch.Tensor, first: int) -> torch.Tensor:
    """The sum of (-square)^k / (2 k + first)!, from its last term on."""
    total = torch.zeros_like(square)
    for k in reversed(range(_TERMS)):
        total = (-1.0) ** k / math.factorial(2 * k + first) + total * square
    return total
