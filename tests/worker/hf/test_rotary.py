"""The rotary table: exact, and made of nothing that differs between CPUs."""

from __future__ import annotations

import torch
from sluice_worker.engines.hf.rotary import cosine_and_sine


def test_cosines_and_sines_are_the_nearest_floats() -> None:
    frequencies = 1 / (10000 ** (torch.arange(0, 128, 2).float() / 128))
    angles = torch.arange(0, 200_000, 7).unsqueeze(1).float() * frequencies
    cosine, sine = cosine_and_sine(angles)
    for got, exact in ((cosine, angles.double().cos()), (sine, angles.double().sin())):
        assert got.dtype is torch.float32
        assert (got - exact).abs().max() < 3.1e-8  # half of the last bit
        assert (got == exact.float()).float().mean() > 0.999999


def test_whole_quarters_and_nothing() -> None:
    quarters = torch.tensor([0.0, 1.5707964, 3.1415927, 4.712389, 6.2831855, 999_999.9])
    cosine, sine = cosine_and_sine(quarters)
    torch.testing.assert_close(cosine, quarters.double().cos().float(), rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(sine, quarters.double().sin().float(), rtol=1e-7, atol=1e-12)
    assert (cosine[0], sine[0]) == (1.0, 0.0)
