# SPDX-License-Identifier: Apache-2.0
"""ABC-Net against numbers worked by hand from the formulas of arXiv 1711.11294."""

from __future__ import annotations

import pytest
import torch

from bittern.binary import ABCNet
from bittern.quantizer import LayerShape, input_terms, weight_terms

W = torch.tensor([[1.0, 3.0, -1.0, -3.0]])
"""Mean 0, deviation sqrt(5)."""


def test_bases_and_their_scales_by_hand() -> None:
    """B'B / 4 = (1, .5, 0; .5, 1, .5; 0, .5, 1), B'W / 4 = (1.5, 2, 1.5): alpha = (1, 1, 1), and W is the sum."""
    terms = weight_terms(ABCNet(LayerShape((1, 4))), W)
    assert [t.values.tolist() for t in terms] == [[[-1, 1, -1, -1]], [[1, 1, -1, -1]], [[1, 1, 1, -1]]]
    assert [t.scale.item() for t in terms if t.scale is not None] == pytest.approx([1, 1, 1], abs=1e-5)
    (one,) = weight_terms(ABCNet(LayerShape((1, 4)), bases=1), W)
    assert one.values.tolist() == [[1, 1, -1, -1]]
    assert one.scale is not None
    assert one.scale.item() == pytest.approx(2.0, abs=1e-5), "mean |W|"


def test_weight_gradient_by_hand() -> None:
    w = W.clone().requires_grad_()
    terms = weight_terms(ABCNet(LayerShape((1, 4))), w)
    g = [torch.tensor([[1.0, 2.0, 3.0, 4.0]]) * k for k in (1, 10, 100)]
    sum((t.values * t.scale * gk).sum() for t, gk in zip(terms, g, strict=True) if t.scale is not None).backward()
    assert w.grad is not None
    assert w.grad[0].tolist() == pytest.approx([111, 222, 333, 444], rel=1e-5)


def test_inputs_and_their_gradients_by_hand() -> None:
    """Thresholds -1/2, 0 and 1/2; a gradient passes where x is at most 1/2 away."""
    method = ABCNet(LayerShape((1, 4)))
    x = torch.tensor([[-0.75, -0.5, 0.25, 1.0]], requires_grad=True)
    terms = input_terms(method, x)
    assert [t.values.tolist() for t in terms] == [[[-1, 1, 1, 1]], [[-1, -1, 1, 1]], [[-1, -1, -1, 1]]]
    assert [t.scale.item() for t in terms if t.scale is not None] == pytest.approx([1 / 3] * 3)
    sum(t.values.sum() * k for t, k in zip(terms, (1, 10, 100), strict=True)).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 11, 110, 100]]
    assert method.shift.grad is not None
    assert method.shift.grad.tolist() == [2, 20, 200]


def test_scales_of_each_filter_fit_its_own_weights() -> None:
    torch.manual_seed(0)
    w = torch.cat([0.1 * torch.randn(1, 40), torch.randn(1, 40)])

    def rest(per_filter: bool) -> float:
        terms = weight_terms(ABCNet(LayerShape((2, 40)), per_filter=per_filter), w)
        assert all(t.scale is not None and t.scale.shape == ((2, 1) if per_filter else ()) for t in terms)
        return float((w - sum(t.values * t.scale for t in terms if t.scale is not None)).square().sum())

    assert rest(True) < rest(False)


def test_bases_that_are_equal_have_finite_scales() -> None:
    w = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    terms = weight_terms(ABCNet(LayerShape((1, 4)), bases=4), w)
    assert torch.allclose(sum(t.values * t.scale for t in terms if t.scale is not None), w, atol=1e-4)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="ABCNet: bases must be an integer from 1 to 8; got 9"):
        ABCNet(LayerShape((1, 4)), bases=9)
    with pytest.raises(ValueError, match="ABCNet: activations must be"):
        ABCNet(LayerShape((1, 4)), activations=0)
