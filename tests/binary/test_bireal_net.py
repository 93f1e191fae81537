# SPDX-License-Identifier: Apache-2.0
"""Bi-Real Net against arXiv 1808.00278."""

from __future__ import annotations

import pytest
import torch

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import BiRealNet
from bittern.quantizer import SignCode

# the last filter is all zeros
W = torch.tensor([[0.5, -0.0, -2.0, 1.0], [-1.0, 0.25, 0.0, 0.75], [0.0, -0.0, 0.0, 0.0]], dtype=torch.float64)
G = torch.arange(1.0, 13.0, dtype=torch.float64).view_as(W)
ALPHA = torch.tensor([[3.5 / 4], [2.0 / 4], [0.0]], dtype=torch.float64)


def test_forward() -> None:
    q = BiRealNet(shape_of(W)).weight(W)
    assert q.values.tolist() == [[1, 1, -1, 1], [-1, 1, 1, 1], [1, 1, 1, 1]]
    assert q.scale is not None
    assert torch.equal(q.scale, ALPHA)
    assert BiRealNet(shape_of(W)).input_code() == SignCode()


def test_gradient_paper_is_magnitude_aware_and_strict() -> None:
    expected = G * ALPHA * torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1]])
    assert_elementwise(scaled_weight_gradient(BiRealNet(shape_of(W)), W, G), expected, 2, 12.0)


def test_gradient_released_leaves_the_scale_out_and_is_inclusive() -> None:
    expected = G * torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    found = scaled_weight_gradient(BiRealNet(shape_of(W), gradient="released"), W, G)
    assert_elementwise(found, expected, 4, 12.0)


def test_gradient_caffe_is_the_identity() -> None:
    expected = G * torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    found = scaled_weight_gradient(BiRealNet(shape_of(W), gradient="caffe"), W, G)
    assert_elementwise(found, expected, 4, 12.0)


def test_input_gradient_is_the_triangle() -> None:
    x = torch.tensor([[-1.5, -1.0, -0.75, -0.0], [0.0, 0.25, 1.0, 9.0]], dtype=torch.float64)
    g = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], dtype=torch.float64)
    method = BiRealNet(shape_of(W))
    assert method.input(x).values.tolist() == [[-1, -1, -1, 1], [1, 1, 1, 1]]
    assert scaled_input_gradient(method, x, g).tolist() == [[0, 0, 1.5, 8], [10, 9, 0, 0]]


def test_unknown_gradient_names_the_choices() -> None:
    with pytest.raises(ValueError, match="gradient must be one of 'paper', 'released', 'caffe'; got 'pytorch'"):
        BiRealNet(shape_of(W), gradient="pytorch")  # type: ignore[arg-type]
