# SPDX-License-Identifier: Apache-2.0
"""ReActNet against arXiv 2003.03488."""

from __future__ import annotations

import torch

from _binary import scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import ReActNet
from bittern.quantizer import SignCode

W = torch.tensor([[0.5, -0.0, -2.0, 1.0], [0.0, 0.0, -0.0, 0.0]], dtype=torch.float64).view(2, 2, 1, 2)
X = torch.tensor([[[[-0.6, -0.5]], [[0.25, 1.5]]], [[[0.5, -2.0]], [[0.2499, -0.0]]]], dtype=torch.float64)


def shifted() -> ReActNet:
    method = ReActNet(shape_of(W)).double()
    with torch.no_grad():
        method.shift.copy_(torch.tensor([0.5, -0.25]))
    return method


def test_the_shift_starts_at_zero_and_is_learned() -> None:
    method = ReActNet(shape_of(W, groups=3))
    assert torch.equal(method.shift, torch.zeros(6))
    assert method.shift.requires_grad


def test_the_shift_moves_the_threshold_of_its_channel() -> None:
    values = shifted().input(X).values
    assert values.flatten().tolist() == [-1, 1, 1, 1, 1, -1, -1, -1]  # x = -b is +1


def test_input_code_is_minus_the_shift() -> None:
    code = shifted().input_code()
    assert isinstance(code, SignCode)
    assert code.threshold is not None
    assert code.threshold.tolist() == [-0.5, 0.25]
    assert not code.threshold.requires_grad


def test_gradients_of_input_and_shift_are_the_triangle_at_the_shifted_input() -> None:
    method = shifted()
    x = X.clone().requires_grad_()
    g = torch.arange(1.0, 9.0, dtype=torch.float64).view_as(X)
    dx, db = torch.autograd.grad(method.input(x).values, (x, method.shift), g)
    at = [abs(v) for v in (-0.1, 0.0, 0.0, 1.25, 1.0, -1.5, -0.0001, -0.25)]
    by_hand = [gi * max(0.0, 2 - 2 * v) for gi, v in zip(range(1, 9), at, strict=True)]
    expected = torch.tensor(by_hand, dtype=torch.float64)
    assert_elementwise(dx.flatten(), expected, 16, 16.0)
    by_channel = expected.view_as(X).sum((0, 2, 3))
    assert_elementwise(db, by_channel, 16, 40.0)


def test_weight_gradient_is_masked_and_leaves_the_scale_out() -> None:
    g = torch.arange(1.0, 9.0, dtype=torch.float64).view_as(W)
    q = ReActNet(shape_of(W)).weight(W)
    assert q.values.flatten().tolist() == [1, 1, -1, 1, 1, 1, 1, 1]
    assert q.scale is not None
    assert q.scale.flatten().tolist() == [3.5 / 4, 0.0]
    found = scaled_weight_gradient(ReActNet(shape_of(W)), W, g)
    expected = torch.tensor([1.0, 2.0, 0.0, 4.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64).view_as(W)
    assert_elementwise(found, expected, 4, 8.0)


def test_the_threshold_agrees_with_the_sum_at_every_neighbour_of_it() -> None:
    """x + b >= 0 where x >= -b, also one float beside the threshold and for subnormal shifts."""
    shift = torch.tensor([0.1, -3.3333, 1e-45, -1e-40, 1e30, 0.0])
    method = ReActNet(shape_of(torch.zeros(1, 6)))
    with torch.no_grad():
        method.shift.copy_(shift)
    up, down = torch.full_like(shift, float("inf")), torch.full_like(shift, float("-inf"))
    x = torch.stack([-shift, torch.nextafter(-shift, up), torch.nextafter(-shift, down)])
    code = method.input_code()
    assert isinstance(code, SignCode)
    assert code.threshold is not None
    expected = torch.where(x >= code.threshold, 1.0, -1.0)
    assert torch.equal(method.input(x).values, expected)
    assert expected.tolist() == [[1.0] * 6, [1.0] * 6, [-1.0] * 6]
