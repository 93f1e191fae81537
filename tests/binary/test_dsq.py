# SPDX-License-Identifier: Apache-2.0
"""DSQ of one bit against arXiv 1908.05033."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import DSQ
from bittern.nn import BinaryLinear
from bittern.nn.parameters import clip_latent_weights
from bittern.quantizer import SignCode

W = torch.tensor([[0.5, -0.0, -2.0, 0.75], [-1.5, 0.05, 0.0, -0.25]], dtype=torch.float64)
G = torch.tensor([[1.0, 2.0, -3.0, 4.0], [5.0, -6.0, 7.0, 8.0]], dtype=torch.float64)
ALPHA, LIMIT = 0.25, 0.8


def method() -> DSQ:
    made = DSQ(shape_of(W)).double()
    with torch.no_grad():
        for alpha, limit in ((made.weight_alpha, made.weight_limit), (made.input_alpha, made.input_limit)):
            alpha.fill_(ALPHA)
            limit.fill_(LIMIT)
    return made


def slopes(v: Tensor) -> Tensor:
    """s k (1 - tanh(k v)^2), s = 1 / (1 - alpha), k = ln(2 / alpha - 1) / (u - l); 0 beyond the limits."""
    k = math.log(2 / ALPHA - 1) / (2 * LIMIT)
    found = [k / (1 - ALPHA) / math.cosh(k * x) ** 2 if abs(x) <= LIMIT else 0.0 for x in v.flatten().tolist()]
    return torch.tensor(found, dtype=torch.float64).view_as(v)


def test_values_and_gradients_by_hand() -> None:
    q = method().weight(W)
    assert q.values.tolist() == [[1, 1, -1, 1], [-1, 1, 1, -1]]
    assert q.scale is not None
    assert q.scale.item() == LIMIT
    assert method().input_code() == SignCode()
    assert_elementwise(scaled_weight_gradient(method(), W, G), G * LIMIT * slopes(W), 32, 20.0)
    assert_elementwise(scaled_input_gradient(method().eval(), W, G), G * slopes(W), 32, 20.0)


def test_steepness_and_limit_are_learned() -> None:
    """By central differences of phi; beyond the limits phi is 1, whatever they are."""

    def total(alpha: float, limit: float) -> float:
        c = (W / limit).clamp(-1, 1)
        return float((G * torch.tanh(c * math.log(2 / alpha - 1) / 2) / (1 - alpha)).sum())

    made, step = method(), 1e-6
    x = W.clone()
    (made.input(x).values * G).sum().backward()
    expected = [
        (total(ALPHA + step, LIMIT) - total(ALPHA - step, LIMIT)) / (2 * step),
        (total(ALPHA, LIMIT + step) - total(ALPHA, LIMIT - step)) / (2 * step),
    ]
    for parameter, slope in zip((made.input_alpha, made.input_limit), expected, strict=True):
        assert parameter.grad is not None
        assert abs(parameter.grad.item() - slope) < 1e-7 * max(1.0, abs(slope))
    made.input(torch.tensor([math.inf, -math.inf, 0.1], dtype=torch.float64)[:, None]).values.sum().backward()
    assert made.input_limit.grad is not None
    assert made.input_limit.grad.isfinite()


def test_a_step_keeps_parameters_in_range() -> None:
    layer = BinaryLinear(4, 2, method=DSQ)
    made = layer.method
    assert isinstance(made, DSQ)
    with torch.no_grad():
        made.weight_alpha.fill_(0.9)
        made.input_alpha.fill_(-1.0)
        made.weight_limit.fill_(-2.0)
    before = layer.weight.clone()
    clip_latent_weights(layer)
    ranged = [made.weight_alpha, made.input_alpha, made.weight_limit, made.input_limit]
    assert torch.equal(torch.stack(ranged), torch.tensor([0.5, 0.01, 1e-3, 1.0]))
    assert torch.equal(layer.weight, before)
