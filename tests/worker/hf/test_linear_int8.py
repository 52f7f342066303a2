"""Linear layers with weights of 8 bits."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch
from sluice_worker.engines.hf.linear_int8 import Int8Linear

from tests.worker.hf.conftest import needs_int8

pytestmark = needs_int8


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """The weights that the layer has, in float64."""
    scales = weight.double().abs().amax(1, keepdim=True) / 127
    return (weight / scales).round() * scales


def random(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 64), (96, 200), (33, 17), (1, 4096)])
@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_nothing_is_lost_but_what_the_weights_lose(rows: int, outputs: int, inputs: int) -> None:
    weight, bias = random(outputs, inputs, 1) * 0.05, random(1, outputs, 2)[0]
    x = random(rows, inputs, 3) * torch.logspace(-4, 4, rows).unsqueeze(1)
    x[:, 0] *= 30  # as activations of language models have it
    got = Int8Linear(weight, bias)(x).double()
    expected = x.double() @ rounded(weight).T + bias
    bound = 2e-4 * (x.double().norm(dim=1) * rounded(weight).norm(dim=1).max()).unsqueeze(1)
    assert bool(((got - expected).abs() <= bound + 1e-6).all())


def test_the_weights_own_error_is_that_of_8_bits() -> None:
    weight, x = random(512, 576, 1), random(16, 576, 2)
    exact = x.double() @ weight.double().T
    error = Int8Linear(weight, None)(x).double() - exact
    assert error.norm() / exact.norm() < 0.01


def test_sums_are_exact_at_their_largest() -> None:
    weight = torch.ones(32, 8192)
    x = torch.cat([torch.full((2, 8192), 3.0), torch.full((2, 8192), -3.0)])
    got = Int8Linear(weight, None)(x)
    assert torch.allclose(got, 3.0 * 8192 * x.sign()[:, :1], rtol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_has_the_same_bits_whatever_is_beside_it(threads: int) -> None:
    layer, x = Int8Linear(random(3072, 576, 1), None), random(64, 576, 2)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = layer(x)
        for rows in range(1, 65):
            assert torch.equal(layer(x[:rows].clone()), together[:rows])
            assert torch.equal(layer(x[64 - rows :].clone()), together[64 - rows :])
    finally:
        torch.set_num_threads(before)


def test_a_row_of_nothing_gives_the_bias() -> None:
    bias = random(1, 48, 1)[0]
    x = random(3, 64, 2)
    x[1] = 0.0
    assert torch.equal(Int8Linear(random(48, 64, 3), bias)(x)[1], bias)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_no_number_is_told_by_its_result_and_spoils_no_other(poison: float) -> None:
    layer, x = Int8Linear(random(48, 64, 1), None), random(3, 64, 2)
    clean = layer(x)
    x[1, 5] = poison
    got = layer(x)
    assert not torch.isfinite(got[1]).any()
    assert torch.equal(got[0], clean[0])
    assert torch.equal(got[2], clean[2])


def test_an_output_without_weights_is_zero() -> None:
    weight = random(48, 64, 1)
    weight[7] = 0.0
    assert torch.equal(Int8Linear(weight, None)(random(3, 64, 2))[:, 7], torch.zeros(3))


def test_weights_may_lie_in_memory_in_another_order() -> None:
    weight, x = random(64, 48, 1), random(3, 64, 2)
    turned = Int8Linear(weight.t(), None)
    assert torch.equal(turned(x), Int8Linear(weight.t().contiguous(), None)(x))


def test_the_weights_given_are_left_as_they_are() -> None:
    weight = random(48, 64, 1)
    before = weight.clone()
    Int8Linear(weight, None)
    assert torch.equal(weight, before)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="of instructions of x86")
@pytest.mark.parametrize(("instructions", "exact"), [("AVX2", False), ("AVX512_CORE_VNNI", True)])
def test_a_cpu_without_the_instructions_is_recognized(instructions: str, exact: bool) -> None:
    """oneDNN is told to use no others."""
    code = "from sluice_worker.engines.hf.linear_int8 import is_exact; print(is_exact())"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(exact)
