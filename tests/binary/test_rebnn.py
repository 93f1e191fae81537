# SPDX-License-Identifier: Apache-2.0
"""ReBNN against arXiv 2302.00956, by a textbook of its authors, and their code."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
from torch import Tensor

from _binary import scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import ReActNet, ReBNN
from bittern.nn import BinaryLinear
from bittern.nn.parameters import clip_latent_weights
from bittern.quantizer import SignCode

W = torch.tensor([[0.5, -0.0, -2.0, 1.0], [-1.0, 0.25, 0.0, 0.75]], dtype=torch.float64)
G = torch.tensor([[1.0, -2.0, 3.0, 4.0], [-5.0, 6.0, 7.0, -8.0]], dtype=torch.float64)
SIGNS = torch.tensor([[1.0, 1, -1, 1], [-1, 1, 1, 1]], dtype=torch.float64)
ALPHA = torch.tensor([[0.01], [0.04]], dtype=torch.float64)


def method(share: tuple[float, float], gamma: Literal["paper", "released"] = "paper") -> ReBNN:
    made = ReBNN(shape_of(W), gamma=gamma).double()
    with torch.no_grad():
        made.scale.copy_(torch.tensor([0.5, -2.0]))
        made.share.copy_(torch.tensor(share))
    return made


def gamma_of(share: tuple[float, float]) -> Tensor:
    """The share of changed signs times the largest gradient of each filter."""
    return torch.tensor([[share[0] * 4.0], [share[1] * 8.0]], dtype=torch.float64)


def test_values_and_the_size_of_the_learned_scale() -> None:
    q = method((0.0, 0.0)).weight(W)
    assert torch.equal(q.values, SIGNS)
    assert q.scale is not None
    assert_elementwise(q.scale, ALPHA, 2, 0.04)
    threshold = method((0.0, 0.0)).input_code()
    assert isinstance(threshold, SignCode)
    assert threshold.threshold is not None


@pytest.mark.parametrize("share", [(0.0, 0.0), (0.25, 0.5)])
def test_weight_gradient_by_hand(share: tuple[float, float]) -> None:
    inside = torch.tensor([[1.0, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.float64)
    expected = ALPHA * G * inside + gamma_of(share) * (W - ALPHA * SIGNS)
    assert_elementwise(scaled_weight_gradient(method(share), W, G), expected, 16, 8.0)


def test_released_holds_gamma_in_its_range() -> None:
    inside = torch.tensor([[1.0, 1, 0, 1], [1, 1, 1, 1]], dtype=torch.float64)
    gamma = torch.tensor([[1e-5], [2e-4]], dtype=torch.float64)
    expected = ALPHA * G * inside + gamma * (W - ALPHA * SIGNS)
    assert_elementwise(scaled_weight_gradient(method((0.0, 0.5), "released"), W, G), expected, 16, 1.0)


def test_scale_gradient_by_hand() -> None:
    """0.02 sign(s) times (sum g W_q - gamma sum (W - alpha W_q) W_q)."""
    made = method((0.25, 0.5))
    q = made.weight(W.clone().requires_grad_())
    assert q.scale is not None
    (q.values * q.scale * G).sum().backward()
    pull = gamma_of((0.25, 0.5)) * (W - ALPHA * SIGNS)
    expected = torch.tensor([0.02, -0.02], dtype=torch.float64) * ((G - pull) * SIGNS).sum(1)
    assert made.scale.grad is not None
    assert_elementwise(made.scale.grad, expected, 16, 1.0)


def test_a_filter_without_scale_has_finite_gradients() -> None:
    made = method((0.5, 0.5))
    with torch.no_grad():
        made.scale[0] = 0.0
    found = scaled_weight_gradient(made, W, G)
    assert found[0].eq(0.0).all()
    assert found.isfinite().all()


def test_steps_count_the_signs_that_change() -> None:
    layer = BinaryLinear(4, 2, method=ReBNN)
    made = layer.method
    assert isinstance(made, ReBNN)
    with torch.no_grad():
        layer.weight.copy_(W)
    clip_latent_weights(layer)
    assert made.share.tolist() == [0.0, 0.0], "the first step has nothing before it"
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([[-1.0, 1, 1, 1], [-1, 1, 1, -1]]))
    clip_latent_weights(layer)
    assert made.share.tolist() == [0.25, 0.5]
    twin = BinaryLinear(4, 2, method=ReBNN)
    twin.load_state_dict(layer.state_dict())
    for other in (copy.deepcopy(layer), twin):
        assert isinstance(other.method, ReBNN)
        clip_latent_weights(other)
        assert other.method.share.tolist() == [0.0, 0.0]
        assert torch.equal(other.method.signs, made.signs)


def test_inputs_are_those_of_reactnet() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4, dtype=torch.float64)
    found = []
    for cls in (ReBNN, ReActNet):
        made, leaf = cls(shape_of(W)).double(), x.clone().requires_grad_()
        torch.nn.init.constant_(made.shift, 0.3)
        q = made.input(leaf)
        q.values.cumsum(0).sum().backward()
        found.append((q.values, leaf.grad, made.shift.grad))
    for ours, react in zip(*found, strict=True):
        assert ours is not None
        assert react is not None
        assert torch.equal(ours, react)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="ReBNN: gamma must be one of 'paper', 'released'; got 'code'"):
        ReBNN(shape_of(W), gamma="code")  # type: ignore[arg-type]
    made = method((0.5, 0.5))
    with pytest.raises(NotImplementedError, match="ReBNN: its gradient depends on the size of the gradient"):
        torch.func.grad(lambda w: made.weight(w).values.sum())(W)
