# SPDX-License-Identifier: Apache-2.0
"""IR-Net against arXiv 1909.10788."""

from __future__ import annotations

import math

import pytest
import torch

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import IRNet
from bittern.quantizer import LayerShape, SignCode

# log2 of mean |W^| is -0.66, -0.42 and -0.56: scales 1/2, 1 and 1/2
W = torch.tensor(
    [
        [0.5, -0.0, -2.0, 1.0, 0.0, 0.25],
        [-1.0, 0.25, 0.0, 0.75, -0.5, 0.125],
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
    ],
    dtype=torch.float64,
)
G = torch.linspace(-2, 3, 18, dtype=torch.float64).view_as(W)


def std_of(row: list[float]) -> float:
    mean = sum(row) / len(row)
    return math.sqrt(sum((v - mean) ** 2 for v in row) / (len(row) - 1))


def test_values_are_signs_of_the_centered_weight_and_scales_powers_of_two() -> None:
    q = IRNet(shape_of(W)).weight(W)
    assert q.scale is not None
    assert q.scale.shape == (3, 1)
    assert not q.scale.requires_grad
    for row, values, scale in zip(W.tolist(), q.values.tolist(), q.scale.flatten().tolist(), strict=True):
        mean = sum(row) / len(row)
        assert values == [1.0 if v >= mean else -1.0 for v in row]
        size = sum(abs(v - mean) for v in row) / len(row) / std_of(row)
        assert scale == 2.0 ** round(math.log2(size))
    assert q.scale.flatten().tolist() == [0.5, 1.0, 0.5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scales_are_exact_powers_of_two(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    w = torch.randn(257, 64, dtype=dtype)
    w[:128, 1:] *= torch.logspace(-8, 0, 128, dtype=dtype)[:, None]  # ever larger outliers: ever smaller mean |W^|
    scale = IRNet(shape_of(w)).weight(w).scale
    assert scale is not None
    mantissa, _ = torch.frexp(scale)
    assert mantissa.eq(0.5).all()
    assert len(scale.unique()) >= 3


@pytest.mark.parametrize("t", [0.0, 0.6, 1.0])
def test_weight_gradient_by_hand(t: float) -> None:
    """g s EDE'(W^), then the transposed Jacobian of centering and dividing by std; s is held constant."""
    method = IRNet(shape_of(W)).double()
    method.set_progress(t)
    tt, k = method.t.item(), method.k.item()
    w0 = W - W.mean(1, keepdim=True)
    n = W.shape[1]
    std = ((w0**2).sum(1, keepdim=True) / (n - 1)).sqrt()
    scale = torch.tensor([[0.5], [1.0], [0.5]], dtype=torch.float64)
    g = G * scale * k * tt * (1 - torch.tanh(tt * w0 / std) ** 2)
    slope = g / std - (g * w0).sum(1, keepdim=True) / std**2 * w0 / ((n - 1) * std)
    expected = slope - slope.mean(1, keepdim=True)
    largest = 3 * max(k * tt, 1) / float(std.min())
    assert_elementwise(scaled_weight_gradient(method, W, G), expected, 64, largest)


def test_input_gradient_is_the_error_decay_estimator_without_a_mask() -> None:
    x = torch.tensor([[-30.0, -1.0, -0.0], [0.0, 0.5, 2.0]], dtype=torch.float64)
    g = torch.arange(1.0, 7.0, dtype=torch.float64).view_as(x)
    method = IRNet(shape_of(W)).double()
    assert method.input(x).values.tolist() == [[-1, -1, 1], [1, 1, 1]]
    for t in (0.0, 0.5, 1.0):
        method.set_progress(t)
        tt, k = method.t.item(), method.k.item()
        by_hand = [gi * k * tt / math.cosh(tt * v) ** 2 for gi, v in zip(g.view(-1), x.view(-1), strict=True)]
        expected = torch.stack(by_hand).view_as(x)
        assert_elementwise(scaled_input_gradient(method, x, g), expected, 16, 6 * max(k * tt, 1))


def test_schedule() -> None:
    method = IRNet(shape_of(W))
    assert (method.t.item(), method.k.item()) == pytest.approx((1e-3, 1e3))
    for t, now, k in ((0.0, 1e-3, 1e3), (0.25, 1e-2, 1e2), (0.5, 0.1, 10.0), (0.75, 1.0, 1.0), (1.0, 10.0, 1.0)):
        method.set_progress(t)
        assert (method.t.item(), method.k.item()) == pytest.approx((now, k), rel=1e-5)
    vgg = IRNet(shape_of(W), t_min=0.1)
    assert (vgg.t.item(), vgg.k.item()) == pytest.approx((0.1, 10.0))
    vgg.set_progress(0.5)
    assert (vgg.t.item(), vgg.k.item()) == pytest.approx((1.0, 1.0))
    assert list(method.state_dict()) == ["t", "k"]


@pytest.mark.parametrize("constant", [0.0, -0.0, 0.1, -3.3])
def test_a_constant_filter_becomes_plus_one_with_scale_one_and_changes_no_other(constant: float) -> None:
    torch.manual_seed(0)
    w = torch.randn(3, 9)
    method = IRNet(shape_of(w))
    alone = method.weight(w)
    w_ = w.clone()
    w_[1] = constant
    q = method.weight(w_)
    assert alone.scale is not None
    assert q.scale is not None
    assert torch.equal(q.values[1], torch.ones(9))
    assert q.scale[1].item() == 1.0
    for o in (0, 2):
        assert torch.equal(q.values[o], alone.values[o])
        assert torch.equal(q.scale[o], alone.scale[o])
    g = torch.randn_like(w)
    found = scaled_weight_gradient(method, w_, g)
    assert found.isfinite().all()
    assert found[1].any()
    assert torch.equal(found[0], scaled_weight_gradient(method, w, g)[0])


def test_input_code() -> None:
    assert IRNet(shape_of(W)).input_code() == SignCode()


def test_bad_options_are_refused() -> None:
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="IRNet: needs 0 < t_min <= t_max; got t_min="):
            IRNet(shape_of(W), t_min=low, t_max=high)
    with pytest.raises(ValueError, match="IRNet: centers each filter"):
        IRNet(LayerShape((4, 1)))
    with pytest.raises(ValueError, match=r"IRNet.set_progress: t must lie in \[0, 1\]; got 2"):
        IRNet(shape_of(W)).set_progress(2)
