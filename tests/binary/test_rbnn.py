# SPDX-License-Identifier: Apache-2.0
"""RBNN against arXiv 2009.13055 and the authors' code."""

from __future__ import annotations

import copy
import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import RBNN
from bittern.quantizer import LayerShape, SignCode

W = torch.tensor([[0.5, -0.0, -2.0, 1.0], [-1.0, 0.25, 0.0, 0.75], [0.3, 0.3, 0.3, 0.3]], dtype=torch.float64)
G = torch.linspace(-2, 3, 12, dtype=torch.float64).view_as(W)
ANGLES = (0.6, -1.1)


def turn(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def by_hand(t: float = 0.5, gradient: Literal["full", "released"] = "full") -> RBNN:
    """Known rotations, angles and scales."""
    method = RBNN(shape_of(W), gradient=gradient).double()
    method.set_progress(t)
    method.R1.copy_(turn(ANGLES[0]))
    method.R2.copy_(turn(ANGLES[1]))
    with torch.no_grad():
        method.theta.copy_(torch.tensor([0.7, -0.4, 1.0], dtype=torch.float64))
        method.alpha.copy_(torch.tensor([0.5, 2.0, 3.0]))
    return method


def standard(w: Tensor) -> Tensor:
    """Of the first two filters; the third has no spread."""
    centered = w - w.mean(1, keepdim=True)
    std = (centered.square().sum(1, keepdim=True) / 3).sqrt()
    return torch.cat([(centered / std)[:2], torch.zeros(1, 4, dtype=w.dtype)])


def rotated(w: Tensor) -> Tensor:
    x = standard(w).view(3, 2, 2)
    return torch.stack([turn(ANGLES[0]).t() @ each @ turn(ANGLES[1]) for each in x]).view_as(w)


def test_values_are_signs_part_of_the_way_to_the_rotated_weight() -> None:
    way = torch.tensor([math.sin(0.7), math.sin(0.4), math.sin(1.0)], dtype=torch.float64).view(3, 1)
    mixed = (1 - way) * standard(W) + way * rotated(W)
    assert mixed[:2].abs().min() > 0.01
    method = by_hand()
    for training in (True, False):
        q = method.train(training).weight(W)
        assert torch.equal(q.values, torch.where(mixed >= 0, 1.0, -1.0).double())
        assert q.values[2].eq(1.0).all(), "a filter without spread"
        assert q.scale is not None
        assert q.scale.flatten().tolist() == [0.5, 2.0, 3.0]
    assert method.input_code() == SignCode()


@pytest.mark.parametrize("gradient", ["full", "released"])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_weight_gradient_by_hand(t: float, gradient: Literal["full", "released"]) -> None:
    """alpha g k max(0, sqrt(2) t - t^2 |W~|), back through the rotation, then through standardizing."""
    method = by_hand(t, gradient)
    tt, k = method.t.item(), method.k.item()
    way = torch.tensor([math.sin(0.7), math.sin(0.4)], dtype=torch.float64).view(2, 1)
    mixed = ((1 - way) * standard(W)[:2] + way * rotated(W)[:2]).abs()
    d = G[:2] * torch.tensor([[0.5], [2.0]]) * k * (math.sqrt(2) * tt - tt * tt * mixed).clamp(min=0)
    back = torch.stack([turn(ANGLES[0]) @ each @ turn(ANGLES[1]).t() for each in d.view(2, 2, 2)]).view(2, 4)
    d = (1 - way) * d + (way * back if gradient == "full" else 0.0)
    centered = (W - W.mean(1, keepdim=True))[:2]
    std = (centered.square().sum(1, keepdim=True) / 3).sqrt()
    slope = d / std - (d * centered).sum(1, keepdim=True) / std**3 * centered / 3
    found = scaled_weight_gradient(method, W, G)
    assert_elementwise(found[:2], slope - slope.mean(1, keepdim=True), 64, 6 * 2 * k * tt / float(std.min()))
    assert found[2].isfinite().all()


def test_angles_get_the_gradient_of_the_way_between() -> None:
    method = by_hand()
    tt, k = method.t.item(), method.k.item()
    q = method.weight(W)
    assert q.scale is not None
    (q.values * q.scale * G).sum().backward()
    way = torch.tensor([math.sin(0.7), math.sin(0.4)], dtype=torch.float64).view(2, 1)
    mixed = (1 - way) * standard(W)[:2] + way * rotated(W)[:2]
    d = G[:2] * torch.tensor([[0.5], [2.0]]) * k * (math.sqrt(2) * tt - tt * tt * mixed.abs()).clamp(min=0)
    slope = torch.tensor(
        [math.cos(0.7), -math.cos(0.4)], dtype=torch.float64
    )  # |sin| falls towards theta = 0 from below
    expected = (d * (rotated(W) - standard(W))[:2]).sum(1) * slope
    assert method.theta.grad is not None
    assert_elementwise(method.theta.grad[:2], expected, 64, 30.0)


def test_input_gradient_in_training_is_taken_at_the_standardized_sample() -> None:
    x = torch.tensor([[-3.0, -1.0, -0.0, 2.0], [0.5, 0.25, 4.0, 1.0]], dtype=torch.float64, requires_grad=True)
    g = torch.arange(1.0, 9.0, dtype=torch.float64).view_as(x)
    method = by_hand(1.0)
    standard_x = x / (x.var(1, keepdim=True) + 1e-5).sqrt()
    t = 10.0
    d = g * (math.sqrt(2) * t - t * t * standard_x.detach().abs()).clamp(min=0)
    (expected,) = torch.autograd.grad(standard_x, x, d)
    assert_elementwise(scaled_input_gradient(method, x.detach(), g), expected, 64, 8 * 20.0)
    # t is at least 1 and k is 1 for inputs: at the beginning the triangle sqrt(2) - |x|
    early = by_hand(0.0).eval()
    expected = g * (math.sqrt(2) - x.detach().abs()).clamp(min=0)
    assert_elementwise(scaled_input_gradient(early, x.detach(), g), expected, 8, 16.0)
    assert early.input(x).values.tolist() == [[-1, -1, 1, 1], [1, 1, 1, 1]]


def test_learning_turns_the_weights_towards_their_signs_and_keeps_rotations_orthogonal() -> None:
    torch.manual_seed(0)
    w = torch.randn(20, 6, 3, 3)
    method = RBNN(shape_of(w))
    assert (method.R1.shape, method.R2.shape) == ((6, 6), (9, 9))
    x = ((w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)).view(20, 6, 9).double()

    def size() -> float:
        return float((method.R1.double().t() @ x @ method.R2.double()).abs().sum())

    before = size()
    method.settle(w)
    once = size()
    assert once > 1.01 * before
    for r in (method.R1, method.R2):
        assert_elementwise(r.t() @ r, torch.eye(len(r), dtype=torch.float64), 32, 1.0)
    kept = method.R1.clone()
    method.settle(w)
    assert torch.equal(method.R1, kept), "not before they are due"
    method.set_progress(0.5)
    method.settle(w)
    assert not torch.equal(method.R1, kept)
    assert size() >= once


def test_two_by_two_rotations_against_all_angles() -> None:
    """The sum of |R1^T X R2| of one filter, beside the best of a fine grid of rotations and reflections."""
    torch.manual_seed(3)
    w = torch.randn(1, 4, dtype=torch.float64)
    method = RBNN(shape_of(w), rotations=40).double()
    for step in range(40):
        method.set_progress(step / 39)
        method.settle(w)
    x = ((w - w.mean()) / w.std()).view(2, 2)
    reached = float((method.R1.t() @ x @ method.R2).abs().sum())
    angles = torch.linspace(0, math.pi, 61).tolist()
    flip = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    best = max(
        float((turn(a).t() @ x @ turn(b) @ f).abs().sum()) for a in angles for b in angles for f in (flip, flip @ flip)
    )
    assert reached > 0.97 * best


def test_state_and_copies_keep_the_rotations() -> None:
    torch.manual_seed(0)
    method, other = RBNN(LayerShape((4, 6))), RBNN(LayerShape((4, 6)))
    assert not torch.equal(method.R2, other.R2), "drawn"
    assert torch.equal(copy.deepcopy(method).R2, method.R2)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.R2, method.R2)
    assert list(dict(method.named_buffers())) == ["R1", "R2", "t", "k", "due", "learned"]


def test_schedule() -> None:
    method = RBNN(shape_of(W), rotations=3)
    for t, now, k, due in ((0.0, 1e-2, 1e2, 1), (1 / 3, 0.1, 10.0, 1), (2 / 3, 1.0, 1.0, 2), (1.0, 10.0, 1.0, 3)):
        method.set_progress(t)
        assert (method.t.item(), method.k.item()) == pytest.approx((now, k), rel=1e-5)
        assert method.due.item() == due
    assert method.alpha.tolist() == [0.25] * 3
    assert ((method.theta >= 0) & (method.theta <= math.pi / 2)).all()


def test_bad_options_are_refused() -> None:
    for low, high in ((0.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="RBNN: needs 0 < t_min <= t_max; got t_min="):
            RBNN(shape_of(W), t_min=low, t_max=high)
    for rotations in (0, 1.5, True):
        with pytest.raises(ValueError, match="RBNN: rotations must be an integer of at least 1; got"):
            RBNN(shape_of(W), rotations=rotations)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="RBNN: gradient must be one of 'full', 'released'; got 'paper'"):
        RBNN(shape_of(W), gradient="paper")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="RBNN: centers each filter"):
        RBNN(LayerShape((4, 1)))
    with pytest.raises(ValueError, match="RBNN: standardizes each sample"):
        RBNN(LayerShape((4, 2))).input(torch.zeros(3, 1))
