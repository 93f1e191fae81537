# SPDX-License-Identifier: Apache-2.0
"""Corrections of a bias, by hand and against means of many samples."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from _tolerance import assert_mean
from bittern.ptq.bias_correction import analytic_correction, cut_normal_mean, empirical_correction
from bittern.ptq.steps import channel_steps, dequantize, quantize, weight_limits


def test_by_hand() -> None:
    wanted = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 2.0], [1.0, 1.0]]])
    found = torch.tensor([[[1.0, 1.0], [0.5, 0.5]], [[3.0, 1.0], [1.0, 2.0]]])
    assert torch.equal(empirical_correction(wanted, found), torch.tensor([0.5, -0.5]))
    assert torch.equal(
        empirical_correction(wanted.movedim(1, 2), found.movedim(1, 2), axis=-1), torch.tensor([0.5, -0.5])
    )
    weight, quantized = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.5, 2.0], [3.0, 3.0]])
    assert torch.equal(analytic_correction(weight, quantized, torch.tensor([2.0, 5.0])), torch.tensor([-1.0, 5.0]))
    depthwise = torch.zeros(2, 1, 1, 3)
    assert torch.equal(
        analytic_correction(depthwise, depthwise + 0.5, torch.tensor([2.0, -1.0]), groups=2), torch.tensor([-3.0, 1.5])
    )


def test_mean_of_a_cut_normal_variable() -> None:
    assert float(cut_normal_mean(torch.tensor(0.0), torch.tensor(2.0))) == pytest.approx(2 / math.sqrt(2 * math.pi))
    wide = cut_normal_mean(torch.tensor([0.7]), torch.tensor([2.0]), low=-math.inf)
    assert float(wide) == pytest.approx(0.7)
    constant = cut_normal_mean(torch.tensor([-1.0, 3.0, 9.0]), torch.zeros(3), high=6.0)
    assert torch.equal(constant, torch.tensor([0.0, 3.0, 6.0]))
    random = torch.Generator().manual_seed(0)
    for mean, deviation, high in ((1.0, 2.0, math.inf), (-1.5, 1.0, math.inf), (4.0, 3.0, 6.0), (9.0, 2.0, 6.0)):
        samples = (mean + deviation * torch.randn(100_000, generator=random)).clamp(0.0, high)
        found = cut_normal_mean(torch.tensor(mean), torch.tensor(deviation), high=high)
        assert_mean(samples, float(found), float(samples.std()))


def test_both_rules_agree_and_bring_the_mean_back() -> None:
    """A layer behind normal variables and a ReLU: the shift of its mean is gone but for the sampling error."""
    random = torch.Generator().manual_seed(1)
    mean, deviation = torch.randn(6, generator=random), torch.rand(6, generator=random) + 0.5
    x = (mean.view(6, 1, 1) + deviation.view(6, 1, 1) * torch.randn(200, 6, 5, 5, generator=random)).relu()
    w = torch.randn(4, 3, 3, 3, generator=random) + 0.3
    steps = channel_steps(w, bits=2).view(-1, 1, 1, 1)
    rough = dequantize(quantize(w, steps, 0, weight_limits(2)), steps, 0)
    wanted, found = F.conv2d(x, w, groups=2), F.conv2d(x, rough, groups=2)
    measured = empirical_correction(wanted, found)
    derived = analytic_correction(w, rough, cut_normal_mean(mean, deviation), groups=2)
    shift = float(measured.abs().max())
    assert shift > 0.5
    assert float((measured - derived).abs().max()) < 0.1 * shift
    after = found + measured.view(-1, 1, 1)
    assert float((after.mean((0, 2, 3)) - wanted.mean((0, 2, 3))).abs().max()) < 1e-4 * shift


def test_refusals() -> None:
    ones = torch.ones(2, 3)
    with pytest.raises(ValueError, match="one shape"):
        empirical_correction(ones, torch.ones(3, 2))
    with pytest.raises(ValueError, match="one shape and numbers"):
        empirical_correction(torch.ones(0, 3), torch.ones(0, 3))
    with pytest.raises(ValueError, match="finite"):
        empirical_correction(ones, ones * math.nan)
    with pytest.raises(ValueError, match=r"input_means must be \[3\]"):
        analytic_correction(ones, ones, torch.ones(2))
    with pytest.raises(ValueError, match="both weights"):
        analytic_correction(ones, torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ValueError, match="deviations"):
        cut_normal_mean(torch.zeros(1), -torch.ones(1))
    with pytest.raises(ValueError, match="low"):
        cut_normal_mean(torch.zeros(1), torch.ones(1), low=1.0, high=0.0)
