# SPDX-License-Identifier: Apache-2.0
"""ReCU against arXiv 2103.12369."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from _binary import scaled_input_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import ReCU
from bittern.quantizer import LayerShape, SignCode

# four ordinary filters, one with an outlier beyond the quantile, one whose weights are all equal
W = torch.tensor(
    [
        [0.5, -0.0, -2.0, 1.0],
        [-1.0, 0.25, 0.0, 0.75],
        [0.125, 0.125, 0.125, 9.0],
        [0.5, 0.5, 0.5, 0.5],
    ],
    dtype=torch.float64,
)
G = torch.linspace(-2, 3, 16, dtype=torch.float64).view_as(W)


def standardized(w: Tensor) -> Tensor:
    rows = []
    for row in w.tolist():
        n = len(row)
        mean = sum(row) / n
        centered = [v - mean for v in row]
        variance = sum(v * v for v in centered) / (n - 1)
        rows.append([v * 2 * math.sqrt(2) / math.sqrt(variance + 1e-5) for v in centered])
    return torch.tensor(rows, dtype=torch.float64)


def quantile(w: Tensor, tau: float) -> float:
    return -standardized(w).abs().mean().item() * math.log(2 - 2 * tau)


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_weight_values_are_signs_of_the_centered_weight(t: float) -> None:
    method = ReCU(shape_of(W))
    method.set_progress(t)
    expected = torch.where(standardized(W) >= 0, 1.0, -1.0).double()
    assert torch.equal(method.weight(W).values, expected)


def test_scale_is_learned_per_filter_and_starts_between_zero_and_one() -> None:
    torch.manual_seed(0)
    method = ReCU(LayerShape((1001, 2, 3, 3)))
    assert 0.0 <= method.alpha.min() < 0.05 < 0.95 < method.alpha.max() < 1.0
    scale = method.weight(torch.randn(1001, 2, 3, 3)).scale
    assert scale is not None
    assert scale.shape == (1001, 1, 1, 1)
    assert torch.equal(scale.flatten(), method.alpha)
    (grad,) = torch.autograd.grad(scale.sum(), method.alpha)
    assert torch.equal(grad, torch.ones(1001))


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_weight_gradient_by_hand(t: float) -> None:
    """g masked by the clamp, then the transposed Jacobian of centering and standardizing."""
    method = ReCU(shape_of(W))
    method.set_progress(t)
    q = quantile(W, method.tau.item())
    w1 = standardized(W)
    masked = G * (w1.abs() <= q)
    assert (masked == 0).any() == (t == 0.0)  # the outlier lies beyond the first quantile, inside the last
    w0 = W - W.mean(1, keepdim=True)
    n = W.shape[1]
    v = (w0**2).sum(1, keepdim=True) / (n - 1) + 1e-5
    c = 2 * math.sqrt(2)
    slope = c / v.sqrt() * masked - c / 2 * v**-1.5 * (masked * w0).sum(1, keepdim=True) * 2 * w0 / (n - 1)
    expected = slope - slope.mean(1, keepdim=True)
    w = W.clone().requires_grad_()
    (found,) = torch.autograd.grad(method.weight(w).values, w, G)
    assert_elementwise(found, expected, 32, (c / v.sqrt() * 9).expand_as(W))


def test_quantile_check_values() -> None:
    """Q / b = -ln(2 - 2 tau): 1.204 at .85, 1.609 at .90, 3.912 at .99; a weight just outside loses its gradient."""
    torch.manual_seed(0)
    w = torch.randn(64, 65, dtype=torch.float64)
    w1 = standardized(w)
    b = w1.abs().mean()
    for tau, ratio in ((0.85, 1.204), (0.90, 1.609), (0.99, 3.912)):
        method = ReCU(shape_of(w))
        method.tau.fill_(tau)
        leaf = w.clone().requires_grad_()
        values = method.weight(leaf).values
        # a gradient for one element moves its own weight by the largest part, unless the clamp stops it
        for sign in (1, -1):
            distance = (w1 - sign * ratio * b).abs()
            outside = torch.where(sign * w1 > 1.001 * ratio * b, distance, math.inf).argmin()
            inside = torch.where(sign * w1 < 0.999 * ratio * b, distance, math.inf).argmin()
            for index, passes in ((outside, False), (inside, True)):
                g = torch.zeros_like(w)
                g.view(-1)[index] = 1.0
                (found,) = torch.autograd.grad(values, leaf, g, retain_graph=True)
                assert bool(found.any()) is passes


def test_tau_schedule_check_values() -> None:
    method = ReCU(shape_of(W))
    assert method.tau.item() == pytest.approx(0.85)
    for t, tau in ((0.0, 0.85), (0.5, 0.9029), (1.0, 0.99)):
        method.set_progress(t)
        assert method.tau.item() == pytest.approx(tau, abs=5e-5)
    assert list(method.state_dict()) == ["alpha", "tau"]


def test_training_standardizes_each_sample_in_the_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 2, 2, 3, dtype=torch.float64)
    x[0, 0, 0, :2] = torch.tensor([0.0, -0.0])
    x[1] *= 50
    g = torch.randn_like(x)
    method = ReCU(LayerShape((4, 2, 1, 1)))
    assert torch.equal(method.input(x).values, torch.where(x >= 0, 1.0, -1.0).double())
    flat, gf, n = x.flatten(1), g.flatten(1), 12
    v = ((flat - flat.mean(1, keepdim=True)) ** 2).sum(1, keepdim=True) / (n - 1) + 1e-5
    x1 = flat / v.sqrt()
    g1 = gf * (2 - 2 * x1.abs()).clamp_min(0)
    through_variance = -0.5 * v**-1.5 * (g1 * flat).sum(1, keepdim=True)
    expected = g1 / v.sqrt() + through_variance * 2 * (flat - flat.mean(1, keepdim=True)) / (n - 1)
    found = scaled_input_gradient(method, x, g)
    assert_elementwise(found.flatten(1), expected, 64, 10.0)


def test_eval_leaves_the_sample_alone() -> None:
    x = torch.tensor([[-1.5, -0.5, -0.0, 0.75]])
    g = torch.ones_like(x)
    method = ReCU(shape_of(W)).eval()
    assert method.input(x).values.tolist() == [[-1, -1, 1, 1]]
    assert scaled_input_gradient(method, x, g).tolist() == [[0, 1, 2, 0.5]]
    assert method.input_code() == SignCode()


def test_training_keeps_signs_that_a_division_would_lose() -> None:
    x = torch.tensor([[-1e-45, 1e-45, 1e4, -1e4]])
    assert ReCU(shape_of(W)).input(x).values.tolist() == [[-1, 1, 1, -1]]


def test_a_constant_filter_and_a_constant_sample_stay_finite() -> None:
    method = ReCU(shape_of(W))
    for constant in (0.0, 0.1, -3.0):
        w = torch.full((4, 4), constant, requires_grad=True)
        (found,) = torch.autograd.grad(method.weight(w).values.sum(), w)
        assert found.isfinite().all()
        x = torch.full((2, 4), constant, requires_grad=True)
        (found,) = torch.autograd.grad(method.input(x).values.sum(), x)
        assert found.isfinite().all()


def test_what_has_no_variance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ReCU: centers each filter.*at least 2 weights; got weight \[4, 1, 1\]"):
        ReCU(LayerShape((4, 1, 1), 4))
    method = ReCU(LayerShape((4, 1, 3)))
    with pytest.raises(ValueError, match=r"at least 2 values; got an input \[5, 1, 1\]"):
        method.input(torch.zeros(5, 1, 1))
    assert method.eval().input(torch.zeros(5, 1, 1)).values.shape == (5, 1, 1)


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_progress_outside_zero_one_is_refused(t: float) -> None:
    with pytest.raises(ValueError, match=r"ReCU.set_progress: t must lie in \[0, 1\]"):
        ReCU(shape_of(W)).set_progress(t)
