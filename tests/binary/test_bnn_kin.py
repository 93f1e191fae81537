# SPDX-License-Identifier: Apache-2.0
"""BNN+ (arXiv 1812.11800, and Larq's quantizer) and BNext (arXiv 2211.12933, and the authors' code)."""

from __future__ import annotations

import math

import pytest
import torch

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import BNext, BNNPlus
from bittern.estimators import SwishSign
from bittern.quantizer import SignCode

W = torch.tensor([[0.5, -0.0, -2.0, 1.0], [-1.5, 0.05, 0.0, -0.25]], dtype=torch.float64)
G = torch.tensor([[1.0, 2.0, -3.0, 4.0], [5.0, -6.0, 7.0, 8.0]], dtype=torch.float64)
X = torch.tensor([[-1.6, -1.5, -0.5, -0.0], [0.0, 0.5, 1.5, 9.0]], dtype=torch.float64)


def test_swish_sign_is_the_derivative_of_its_function() -> None:
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    for beta in (1.0, 5.0):
        u = beta * x
        s = torch.sigmoid(u)
        (expected,) = torch.autograd.grad((2 * s * (1 + u * (1 - s)) - 1).sum(), x)
        assert_elementwise(SwishSign(beta).derivative(x), expected, 32, 4 * beta)
    edges = torch.tensor([0.0, -0.0, math.inf, -math.inf, 1e30])
    assert SwishSign(5.0).derivative(edges).tolist() == pytest.approx([5.0, 5.0, 0.0, 0.0, 0.0], abs=1e-30)


def test_bnn_plus_by_hand() -> None:
    method = BNNPlus(shape_of(W))
    q = method.weight(W)
    assert q.values.tolist() == [[1, 1, -1, 1], [-1, 1, 1, -1]]
    assert q.scale is None
    assert torch.equal(scaled_weight_gradient(method, W, G), G)
    assert method.clip_latent == 1.0
    assert method.input_code() == SignCode()
    by_hand = [
        g * 5 * (2 - 5 * x * math.tanh(2.5 * x)) / (1 + math.cosh(5 * x))
        for g, x in zip(G.view(-1), X.view(-1), strict=True)
    ]
    expected = torch.tensor(by_hand, dtype=torch.float64).view_as(X)
    assert_elementwise(scaled_input_gradient(method, X, G), expected, 32, 40.0)


def test_bnext_by_hand() -> None:
    method = BNext(shape_of(W)).double()
    assert torch.equal(scaled_weight_gradient(method, W, G), G)
    assert method.weight(W).scale is None
    w = 2 * W
    method.settle(w)
    assert w.tolist() == [[1, 0, -1.5, 1.5], [-1.5, 0.1, 0, -0.5]]
    assert scaled_input_gradient(method, X, G).tolist() == [[0, 2, -3, 4], [5, -6, 7, 0]]
    with torch.no_grad():
        method.shift.copy_(torch.tensor([0.25, 0.0, 0.5, -0.25]))
    leaf = X.clone().requires_grad_()
    values = method.input(leaf).values
    assert values.tolist() == [[-1, -1, 1, -1], [1, 1, 1, 1]]
    values.backward(G)
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [[1, 2, -3, 4], [5, -6, 0, 0]]
    assert method.shift.grad is not None
    assert method.shift.grad.tolist() == [6, -4, -3, 4]
    code = method.input_code()
    assert isinstance(code, SignCode)
    assert code.threshold is not None
    assert code.threshold.tolist() == [-0.25, 0.0, -0.5, 0.25]


def test_bad_options_are_refused() -> None:
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="BNNPlus: beta must be a positive number; got"):
            BNNPlus(shape_of(W), beta=wrong)
        with pytest.raises(ValueError, match="BNext: limit must be a positive number; got"):
            BNext(shape_of(W), limit=wrong)
    with pytest.raises(ValueError, match="BNNPlus: clip_latent must be a positive number, or None for no limit; got 0"):
        BNNPlus(shape_of(W), clip_latent=0)
