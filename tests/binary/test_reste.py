# SPDX-License-Identifier: Apache-2.0
"""ReSTE against arXiv 2308.06689 and the authors' code."""

from __future__ import annotations

import math

import pytest
import torch

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import ReSTE
from bittern.quantizer import SignCode

W = torch.tensor([[0.5, -0.0, -2.0, 1.0], [-1.5, 0.05, 0.0, -0.25]], dtype=torch.float64)
G = torch.tensor([[1.0, 2.0, -3.0, 4.0], [5.0, -6.0, 7.0, 8.0]], dtype=torch.float64)
SCALE = 5.3 / 8


def slope(v: float, o: float) -> float:
    """The estimator by its three pieces."""
    if abs(v) > 1.5:
        return 0.0
    return 0.1 ** (1 / o) / 0.1 if abs(v) <= 0.1 else abs(v) ** ((1 - o) / o) / o


def at(t: float) -> ReSTE:
    method = ReSTE(shape_of(W)).double()
    method.set_progress(t)
    return method


def test_values_are_signs_and_the_scale_is_the_mean_of_the_layer() -> None:
    q = at(0.0).weight(W)
    assert q.values.tolist() == [[1, 1, -1, 1], [-1, 1, 1, -1]]
    assert q.scale is not None
    assert q.scale.shape == ()
    assert q.scale.item() == pytest.approx(SCALE)
    assert at(0.0).input_code() == SignCode()


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_weight_gradient_by_hand(t: float) -> None:
    """g alpha f'(W) through the values, and sign(W) / n times the sum of g sign(W) through the scale."""
    method = at(t)
    o = method.o.item()
    estimator = torch.tensor([[slope(v, o) for v in row] for row in W.tolist()], dtype=torch.float64)
    signs = torch.where(W >= 0, 1.0, -1.0)
    expected = G * SCALE * estimator + torch.sgn(W) * float((G * signs).sum()) / 8
    assert_elementwise(scaled_weight_gradient(method, W, G), expected, 32, 40.0)


def test_input_gradient_by_hand() -> None:
    """At o = 3: 0.1^(-2/3) = 4.6416 up to 0.1, |x|^(-2/3) / 3 beyond, 0 from 1.5 on; at o = 1 the clipped identity."""
    x = torch.tensor([[-0.0, 0.1, -0.125, 1.0], [-1.5, 1.5000001, math.inf, 8.0]], dtype=torch.float64)
    g = torch.full_like(x, 2.0)
    steep = 2 * 10.0 ** (2 / 3)
    expected = torch.tensor([[steep, steep, 2 * 4 / 3, 2 / 3], [2 / 3 * 1.5 ** (-2 / 3), 0, 0, 0]], dtype=torch.float64)
    assert_elementwise(scaled_input_gradient(at(1.0), x, g), expected, 32, steep)
    assert scaled_input_gradient(at(0.0), x, g).tolist() == [[2, 2, 2, 2], [2, 0, 0, 0]]
    assert at(1.0).input(x).values.tolist() == [[1, 1, -1, 1], [-1, 1, 1, 1]]


def test_schedule() -> None:
    """o - 1 = (1 - cos(pi t / 2)) (o_end - 1)."""
    method = ReSTE(shape_of(W))
    assert method.o.item() == 1.0
    for t, o in ((0.0, 1.0), (1 / 3, 1 + 2 * (1 - math.sqrt(3) / 2)), (2 / 3, 2.0), (1.0, 3.0)):
        method.set_progress(t)
        assert method.o.item() == pytest.approx(o)
    assert list(method.state_dict()) == ["o"]
    flat = ReSTE(shape_of(W), o_end=1.0)
    flat.set_progress(1.0)
    assert flat.o.item() == 1.0


def test_a_layer_of_zeros_has_finite_gradients() -> None:
    method = at(1.0)
    zeros = torch.zeros_like(W)
    q = method.weight(zeros)
    assert q.values.eq(1.0).all()
    assert q.scale is not None
    assert q.scale.item() == 0.0
    assert scaled_weight_gradient(method, zeros, G).eq(0.0).all()


def test_bad_options_are_refused() -> None:
    for o_end in (0.5, math.inf, math.nan, -1.0):
        with pytest.raises(ValueError, match="ReSTE: o_end must be at least 1 and finite; got"):
            ReSTE(shape_of(W), o_end=o_end)
    with pytest.raises(ValueError, match=r"ReSTE.set_progress: t must lie in \[0, 1\]; got 2"):
        ReSTE(shape_of(W)).set_progress(2)
