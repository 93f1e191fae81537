# SPDX-License-Identifier: Apache-2.0
"""XNOR-Net against arXiv 1603.05279."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise
from bittern.binary import XNORNet
from bittern.nn import BinaryConv2d, clip_latent_weights
from bittern.quantizer import InputScale, LayerShape, SignCode

# two filters of C_in = 2 and a 1 x 2 kernel; the second holds +-1 exactly, the third is all zeros
W = torch.tensor(
    [[[[0.5, -0.0]], [[-2.0, 0.7]]], [[[1.0, -1.0]], [[0.25, 0.0]]], [[[0.0, -0.0]], [[0.0, 0.0]]]],
    dtype=torch.float64,
)
G = torch.arange(1.0, 13.0, dtype=torch.float64).view_as(W) / 7.0
X = torch.tensor([[[[-2.0, -1.0]], [[-0.0, 0.0]]], [[[1.0, 1.5]], [[0.25, -3.0]]]], dtype=torch.float64)


def plus_sign(w: Tensor) -> Tensor:
    return torch.where(w >= 0, 1.0, -1.0).to(w.dtype)


def test_weight_is_sign_and_mean_of_magnitudes_per_filter() -> None:
    q = XNORNet(shape_of(W)).weight(W)
    assert q.values.flatten(1).tolist() == [[1, 1, -1, 1], [1, -1, 1, 1], [1, 1, 1, 1]]
    assert q.scale is not None
    assert q.scale.shape == (3, 1, 1, 1)
    assert q.scale.flatten().tolist() == [(0.5 + 2.0 + 0.7) / 4, 2.25 / 4, 0.0]


def expected_paper(w: Tensor, g: Tensor, *, strict: bool = False) -> Tensor:
    """dW_i = g_i (1/n + alpha 1{|W_i| <= 1}); 0 for a filter of zeros, whose alpha is 0."""
    out = torch.zeros_like(w)
    n = w[0].numel()
    for o in range(len(w)):
        alpha = sum(abs(v) for v in w[o].flatten().tolist()) / n
        for i in range(n):
            v = w[o].flatten()[i].item()
            inside = abs(v) < 1 if strict else abs(v) <= 1
            out[o].view(-1)[i] = g[o].flatten()[i] * (1 / n + (alpha if inside else 0)) if alpha else 0
    return out


def test_gradient_paper() -> None:
    found = scaled_weight_gradient(XNORNet(shape_of(W)), W, G)
    assert_elementwise(found, expected_paper(W, G), 8, G.abs().max())
    assert torch.equal(found[2], torch.zeros_like(found[2]))


def test_gradient_full() -> None:
    """dW_i = sign(W_i)/n sum_j g_j sign(W_j) + g_i alpha 1{|W_i| <= 1}."""
    s, n = plus_sign(W), 4
    alpha = W.abs().sum((1, 2, 3), keepdim=True) / n
    expected = s / n * (G * s).sum((1, 2, 3), keepdim=True) + G * alpha * (W.abs() <= 1)
    assert_elementwise(scaled_weight_gradient(XNORNet(shape_of(W), gradient="full"), W, G), expected, 16, 4.0)


def test_gradient_detached() -> None:
    alpha = W.abs().sum((1, 2, 3), keepdim=True) / 4
    expected = G * alpha * (W.abs() <= 1)
    assert_elementwise(scaled_weight_gradient(XNORNet(shape_of(W), gradient="detached"), W, G), expected, 8, 4.0)


def test_gradient_released_centers_per_tap_and_is_strict() -> None:
    method = XNORNet(shape_of(W), gradient="released", centering="per_tap_in_channel")
    centered = W - (W[:, :1] + W[:, 1:]) / 2
    q = method.weight(W)
    assert torch.equal(q.values, plus_sign(centered))
    expected = expected_paper(centered, G, strict=True) * (1 - 1 / 2)
    assert_elementwise(scaled_weight_gradient(method, W, G), expected, 16, G.abs().max())


def test_gradient_released_is_strict_at_one() -> None:
    method = XNORNet(shape_of(W), gradient="released")
    assert_elementwise(scaled_weight_gradient(method, W, G), expected_paper(W, G, strict=True) / 2, 8, G.abs().max())


@pytest.mark.parametrize("centering", ["per_tap_in_channel", "per_filter"])
def test_centering_is_part_of_value_and_gradient(centering: str) -> None:
    method = XNORNet(shape_of(W), centering=centering)  # type: ignore[arg-type]
    over = (1,) if centering == "per_tap_in_channel" else (1, 2, 3)
    centered = W - W.mean(over, keepdim=True)
    q = method.weight(W)
    assert torch.equal(q.values, plus_sign(centered))
    assert q.scale is not None
    assert_elementwise(q.scale, centered.abs().mean((1, 2, 3), keepdim=True), 4, 1.0)
    before = expected_paper(centered, G)
    expected = before - before.mean(over, keepdim=True)  # the transpose of centering is centering
    assert_elementwise(scaled_weight_gradient(method, W, G), expected, 16, G.abs().max())


def test_input_gradient_inclusive_or_strict() -> None:
    g = torch.arange(1.0, 9.0, dtype=torch.float64).view_as(X)
    inclusive = [0, 2, 3, 4, 5, 0, 7, 0]
    strict = [0, 0, 3, 4, 0, 0, 7, 0]
    assert scaled_input_gradient(XNORNet(shape_of(W)), X, g).flatten().tolist() == inclusive
    released = XNORNet(shape_of(W), input_gradient="released")
    assert scaled_input_gradient(released, X, g).flatten().tolist() == strict


def test_input_scales() -> None:
    assert XNORNet(shape_of(W), input_scale=InputScale.NONE).input(X).scale is None
    spatial = XNORNet(shape_of(W)).input(X).scale
    assert spatial is not None
    assert spatial.shape == (2, 1, 1, 2)
    assert spatial.flatten().tolist() == [1.0, 0.5, 0.625, 2.25]
    sample = XNORNet(shape_of(W), input_scale=InputScale.PER_SAMPLE).input(X).scale
    assert sample is not None
    assert sample.shape == (2, 1, 1, 1)
    assert sample.flatten().tolist() == [0.75, 5.75 / 4]


@pytest.mark.parametrize("scale", list(InputScale))
def test_input_code_carries_the_scale(scale: InputScale) -> None:
    assert XNORNet(shape_of(W), input_scale=scale).input_code() == SignCode(None, scale)


def test_no_gradient_flows_through_the_input_scale() -> None:
    x = X.clone().requires_grad_()
    scale = XNORNet(shape_of(W)).input(x).scale
    assert scale is not None
    assert not scale.requires_grad


def test_layer_computes_the_paper_with_its_scale_map() -> None:
    """y = (sign(x) * sign(W)) K alpha, K the box-averaged channel mean of |x|, written out pixel by pixel."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 4, 5)
    layer = BinaryConv2d(3, 2, 3, padding=1, method=XNORNet)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    signs = torch.nn.functional.pad(plus_sign(x), (1, 1, 1, 1))
    w = layer.weight.detach()
    expected = torch.zeros(1, 2, 4, 5, dtype=torch.float64)
    for o in range(2):
        for i in range(4):
            for j in range(5):
                k = padded[0, :, i : i + 3, j : j + 3].double().abs().mean()
                dot = (signs[0, :, i : i + 3, j : j + 3].double() * plus_sign(w[o]).double()).sum()
                expected[0, o, i, j] = dot * k * w[o].double().abs().mean()
    assert_elementwise(layer(x).detach(), expected, 32, expected.abs().max())


def test_latent_clip_is_an_option() -> None:
    assert XNORNet(shape_of(W)).clip_latent is None
    assert XNORNet(shape_of(W), clip_latent=1.0).clip_latent == 1.0


def test_bad_options_name_the_choices() -> None:
    shape = shape_of(W)
    with pytest.raises(ValueError, match="gradient must be one of 'paper', 'released', 'full', 'detached'; got 'ste'"):
        XNORNet(shape, gradient="ste")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"input_scale must be one of InputScale.NONE, .*; got 'none'"):
        XNORNet(shape, input_scale="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="centering must be one of 'none', 'per_tap_in_channel', 'per_filter'"):
        XNORNet(shape, centering="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="input_gradient must be one of"):
        XNORNet(shape, input_gradient="full")  # type: ignore[arg-type]
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="clip_latent must be a positive number"):
            XNORNet(shape, clip_latent=bad)


def test_centering_that_leaves_nothing_is_refused() -> None:
    depthwise = LayerShape((4, 1, 3, 3), 4)
    XNORNet(depthwise, centering="per_filter")
    with pytest.raises(ValueError, match=r"leaves nothing of a weight \[4, 1, 3, 3\]"):
        XNORNet(depthwise, centering="per_tap_in_channel")
    with pytest.raises(ValueError, match="gradient='released' leaves nothing"):
        XNORNet(depthwise, gradient="released")
    with pytest.raises(ValueError, match="leaves nothing"):
        XNORNet(LayerShape((4, 1)), centering="per_filter")


def released(**changes: Any) -> partial[XNORNet]:
    """The authors' code."""
    options: dict[str, Any] = {
        "gradient": "released",
        "input_gradient": "released",
        "input_scale": InputScale.NONE,
        "centering": "per_tap_in_channel",
        "clip_latent": 1.0,
    }
    return partial(XNORNet, **{**options, **changes})


def test_latents_are_centered_before_they_are_clipped_and_stored() -> None:
    layer = BinaryConv2d(3, 1, 1, method=released())
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([3.5, 2.5, 1.5]).view(1, 3, 1, 1))
    clip_latent_weights(layer)
    # the mean 2.5 goes first; clipped first, all three would be 1 and the filter lost
    assert layer.weight.flatten().tolist() == [1.0, 0.0, -1.0]
    filters = BinaryConv2d(3, 1, 1, method=released(gradient="paper", centering="per_filter", clip_latent=0.5))
    with torch.no_grad():
        filters.weight.copy_(torch.tensor([3.5, 2.5, 1.5]).view(1, 3, 1, 1))
    clip_latent_weights(filters)
    assert filters.weight.flatten().tolist() == [0.5, 0.0, -0.5]


@pytest.mark.parametrize("changes", [{"clip_latent": None}, {"centering": "none"}])
def test_latents_stay_where_they_are_without_clip_or_centering(changes: dict[str, Any]) -> None:
    layer = BinaryConv2d(3, 1, 1, method=released(**changes))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 0.75, 0.25]).view(1, 3, 1, 1))
    clip_latent_weights(layer)
    assert layer.weight.flatten().tolist() == [0.5, 0.75, 0.25]


def test_signs_survive_a_drift_that_all_input_channels_share() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(16, 8, 3, padding=1, method=released())
    with torch.no_grad():
        layer.weight.normal_(0.0, 0.2)
    first = layer.method.weight(layer.weight.detach())
    for _ in range(30):
        with torch.no_grad():
            layer.weight.add_(0.05)
        clip_latent_weights(layer)
    last = layer.method.weight(layer.weight.detach())
    # roundings may turn a sign that is within them of 0
    assert float((last.values != first.values).float().mean()) < 1e-3
    assert first.scale is not None
    assert last.scale is not None
    torch.testing.assert_close(last.scale, first.scale, rtol=1e-4, atol=0.0)
