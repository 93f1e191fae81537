# SPDX-License-Identifier: Apache-2.0
"""SiMaN against arXiv 2102.07981 and the authors' code."""

from __future__ import annotations

import pytest
import torch

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import ReCU, SiMaN
from bittern.quantizer import LayerShape, SignCode

# means 0.2 and -0.4; magnitudes around them 0.8, 0.2, 2.2, 0.3, 1.3 and 0.1, 0.9, 1.6, 0.6, 0.2
W = torch.tensor([[1.0, 0.0, -2.0, 0.5, 1.5], [-0.5, -1.3, 1.2, -1.0, -0.4]], dtype=torch.float64)
G = torch.linspace(-2, 3, 10, dtype=torch.float64).view_as(W)


def with_scales() -> SiMaN:
    method = SiMaN(shape_of(W)).double()
    with torch.no_grad():
        method.alpha.copy_(torch.tensor([0.5, 2.0]))
    return method


def test_the_larger_half_becomes_plus_one_whatever_its_sign() -> None:
    q = with_scales().weight(W)
    assert q.values.tolist() == [[-1, -1, 1, -1, 1], [-1, 1, 1, -1, -1]]
    assert q.scale is not None
    assert q.scale.flatten().tolist() == [0.5, 2.0]
    even = SiMaN(LayerShape((1, 4))).weight(torch.tensor([[4.0, -3.0, 1.0, -2.0]]))
    assert even.values.tolist() == [[1, 1, -1, -1]], "around a mean of 0"
    assert with_scales().input_code() == SignCode()


def test_equal_magnitudes_on_the_border_all_become_plus_one() -> None:
    found = SiMaN(LayerShape((3, 4))).weight(torch.tensor([[1.0, -1.0, 3.0, -3.0], [1, -1, 1, -1], [2, 2, 2, 2]]))
    assert found.values.tolist() == [[-1, -1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]


def test_weight_gradient_by_hand() -> None:
    """alpha g sign(W0), then back through dividing by sqrt(var + 1e-5) and through centering."""
    w0 = W - W.mean(1, keepdim=True)
    d = G * torch.tensor([[0.5], [2.0]]) * torch.where(w0 >= 0, 1.0, -1.0)
    f = (w0.square().sum(1, keepdim=True) / 4 + 1e-5) ** -0.5
    slope = d * f - f**3 * w0 * (d * w0).sum(1, keepdim=True) / 4
    expected = slope - slope.mean(1, keepdim=True)
    assert_elementwise(scaled_weight_gradient(with_scales(), W, G), expected, 64, 6.0 * float(f.max()))


def test_a_filter_of_equal_weights_still_learns() -> None:
    w = torch.full((2, 5), -0.7, dtype=torch.float64)
    found = scaled_weight_gradient(with_scales(), w, G)
    assert found.isfinite().all()
    assert found.any(1).all()


def test_inputs_are_those_of_recu() -> None:
    torch.manual_seed(0)
    x, g = torch.randn(2, 3, 7, dtype=torch.float64).unbind(0)
    x[0, 0] = -0.0
    for training in (True, False):
        ours, recu = (method(LayerShape((2, 7))).double().train(training) for method in (SiMaN, ReCU))
        assert torch.equal(ours.input(x).values, recu.input(x).values)
        assert torch.equal(scaled_input_gradient(ours, x, g), scaled_input_gradient(recu, x, g))


def test_a_step_settles_weights_between_percentiles_of_the_layer() -> None:
    """Of 10 magnitudes 0.1 ... 2.2 the 10th percentile lies 0.9 of the way from the first to the second."""
    method = with_scales()
    method.percent.fill_(10.0)
    w = W.clone()
    method.settle(w)
    size = (W - W.mean(1, keepdim=True)).abs()
    ordered = size.flatten().sort().values
    low = ordered[0] + 0.9 * (ordered[1] - ordered[0])
    high = ordered[8] + 0.1 * (ordered[9] - ordered[8])
    expected = torch.where(W.mean(1, keepdim=True) <= W, 1.0, -1.0) * size.clamp(low, high)
    assert_elementwise(w, expected, 8, 2.2)
    method.set_progress(1.0)
    w = W.clone()
    method.settle(w)
    assert torch.equal(w, W - W.mean(1, keepdim=True)), "at the end it is centered only"


def test_schedule_and_start() -> None:
    method = SiMaN(shape_of(W))
    assert list(method.state_dict()) == ["alpha", "percent"]
    for t, percent in ((0.0, 5.0), (0.25, 3.75), (1.0, 0.0)):
        method.set_progress(t)
        assert method.percent.item() == pytest.approx(percent)
    assert method.alpha.tolist() == pytest.approx([5**-0.5 / 2] * 2)


def test_what_has_no_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="SiMaN: centers each filter"):
        SiMaN(LayerShape((4, 1)))
    with pytest.raises(ValueError, match="SiMaN: standardizes each sample"):
        SiMaN(LayerShape((4, 2))).input(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"SiMaN.set_progress: t must lie in \[0, 1\]; got -1"):
        SiMaN(shape_of(W)).set_progress(-1)
