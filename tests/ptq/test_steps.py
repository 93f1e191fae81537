# SPDX-License-Identifier: Apache-2.0
"""Grids: scales, zeros and integers worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from _tolerance import assert_exact
from bittern.ptq.steps import (
    Limits,
    channel_steps,
    dequantize,
    input_limits,
    least_squares_channel_steps,
    quantize,
    scale_and_zero,
    weight_limits,
)


def _float32(x: float) -> float:
    return float(torch.tensor(x, dtype=torch.float32))


def test_limits() -> None:
    assert input_limits(8) == Limits(-128, 127)
    assert weight_limits(8) == Limits(-127, 127)
    assert input_limits(2) == Limits(-2, 1)
    assert weight_limits(2) == Limits(-1, 1)
    for bits in (1, 9, True, 4.0):
        with pytest.raises(ValueError, match="from 2 to 8"):
            input_limits(bits)  # type: ignore[arg-type]


def test_scale_and_zero() -> None:
    assert scale_and_zero(0.0, 2.55) == (_float32(0.01), -128)
    assert scale_and_zero(-1.28, 1.27) == (_float32(0.01), 0)
    assert scale_and_zero(-2.55, 0.0) == (_float32(0.01), 127)
    assert scale_and_zero(-1.0, 2.0, bits=2) == (1.0, -1)
    assert scale_and_zero(-0.5, 2.5, bits=2) == (1.0, -1)  # -2 + 0.5 lies half way: up
    assert scale_and_zero(-3.0, 1.27, symmetric=True) == (_float32(3.0 / 127), 0)
    assert scale_and_zero(-7.0, 3.0, bits=4, symmetric=True) == (1.0, 0)


def test_scale_of_extreme_ranges() -> None:
    assert scale_and_zero(0.0, 0.0) == (1.0, -128)
    assert scale_and_zero(-0.0, 0.0, symmetric=True) == (1.0, 0)
    assert scale_and_zero(0.0, 1e-45) == (2.0**-126, -128)
    huge = torch.finfo(torch.float32).max
    scale, zero = scale_and_zero(-huge, huge)
    assert math.isfinite(scale)
    assert zero in (-1, 0)
    for low, high in ((0.5, 1.0), (-2.0, -1.0), (1.0, -1.0), (math.nan, 1.0), (-1.0, math.inf)):
        with pytest.raises(ValueError, match="low <= 0 <= high"):
            scale_and_zero(low, high)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_zero_is_exact_and_the_range_is_covered(bits: int) -> None:
    limits = input_limits(bits)
    for low, high in ((-0.37, 1.9), (-1e-3, 5.0), (-5.0, 1e-3), (0.0, 1e-30), (-77.0, 0.0)):
        scale, zero = scale_and_zero(low, high, bits=bits)
        assert limits.least <= zero <= limits.most
        ends = torch.tensor([low, 0.0, high])
        there = dequantize(quantize(ends, scale, zero, limits), scale, zero)
        assert there[1] == 0.0
        assert (there - ends).abs().max() <= 1.01 * scale


def test_quantize_rounds_halves_away_from_zero() -> None:
    x = torch.tensor([0.5, -0.5, 1.5, 2.5, -2.5, 0.49, 1000.0, -1000.0, -0.0])
    assert_exact(quantize(x, 1.0, 3, input_limits(8)), torch.tensor([4, 2, 5, 6, 0, 3, 127, -128, 3], dtype=torch.int8))
    assert_exact(quantize(x, 1.0, 0, weight_limits(3)), torch.tensor([1, -1, 2, 3, -3, 0, 3, -3, 0], dtype=torch.int8))
    with pytest.raises(ValueError, match="1 of 2 are NaN"):
        quantize(torch.tensor([0.0, math.nan]), 1.0, 0, input_limits(8))


def test_channel_steps() -> None:
    w = torch.tensor([[[1.27, -0.5]], [[0.0, 0.0]], [[-2.54, 1.0]]])
    assert_exact(channel_steps(w), torch.tensor([1.27 / 127, 1.0, 2.54 / 127]))
    assert_exact(channel_steps(w.movedim(0, 1), axis=1), channel_steps(w))
    assert_exact(channel_steps(torch.tensor([0.0, -3.0]), bits=3), torch.tensor([1.0, 1.0]))
    assert_exact(channel_steps(torch.full((1, 2), 1e-45)), torch.tensor([2.0**-126]))
    for steps in (channel_steps, least_squares_channel_steps):
        with pytest.raises(ValueError, match="1 of 2 are not"):
            steps(torch.tensor([[1.0, math.inf]]))
        with pytest.raises(ValueError, match="at least one number"):
            steps(torch.zeros(3, 0))
        with pytest.raises(TypeError, match="floating point"):
            steps(torch.ones(2, 2, dtype=torch.int8))
    with pytest.raises(ValueError, match="power"):
        least_squares_channel_steps(torch.ones(2, 2), power=0.0)


@pytest.mark.parametrize("power", [2.0, 2.4])
def test_least_squares_steps_by_plain_loops(power: float) -> None:
    w = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [1e-20], [0.0]])
    found = least_squares_channel_steps(w, bits=3, power=power)
    full = channel_steps(w, bits=3)
    assert found[2] == 1.0
    for row, best, step in zip(w.tolist(), found.tolist(), full.tolist(), strict=True):

        def error(s: float, row: list[float] = row, step: float = step) -> float:
            codes = [math.copysign(min(3, math.floor(abs(v) / s + 0.5)), v) for v in row]
            return sum((abs(v - code * s) / step) ** power for v, code in zip(row, codes, strict=True))

        assert error(best) <= min(error(step * (1 - i / 100)) for i in range(80)) * (1 + 1e-4)
    assert (found[:2] < full[:2]).all()
