# SPDX-License-Identifier: Apache-2.0
"""FDA-BNN against arXiv 2103.00841."""

from __future__ import annotations

import copy
import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise, assert_reduction
from bittern.binary import FDA
from bittern.nn import BinaryConv2d
from bittern.quantizer import LayerShape, SignCode

W = torch.tensor([[0.5, -0.0, -2.0], [1.0, -1.0, 0.25]], dtype=torch.float64)
G = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], dtype=torch.float64)


def cosines(v: Tensor, n: int, omega: float, mask: str = "paper") -> Tensor:
    """Equation 10 of the paper, which BiBench masks."""
    total = sum(torch.cos((2 * i + 1) * omega * v) for i in range(n + 1))
    return 4 * omega / math.pi * total * (v.abs() <= 1 if mask == "bibench" else 1)


def test_eval_forward_is_signs_and_one_scale_for_the_layer() -> None:
    method = FDA(shape_of(W)).double().eval()
    q = method.weight(W)
    assert q.values.tolist() == [[1, 1, -1], [1, -1, 1]]
    assert q.scale is not None
    assert q.scale.shape == ()
    assert_elementwise(q.scale, torch.tensor(4.75 / 6, dtype=torch.float64), 4, 1.0)
    assert method.input(W).values.tolist() == [[1, 1, -1], [1, -1, 1]]
    assert method.input(W).scale is None
    assert method.input_code() == SignCode()


@pytest.mark.parametrize(("t", "n"), [(0.0, 9), (0.5, 13), (1.0, 18)])
@pytest.mark.parametrize("omega", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("clamp_negative", [False, True])
@pytest.mark.parametrize("mask", ["paper", "bibench"])
def test_gradient_is_the_truncated_fourier_series(
    t: float, n: int, omega: float, clamp_negative: bool, mask: Literal["paper", "bibench"]
) -> None:
    method = FDA(shape_of(W), omega=omega, clamp_negative=clamp_negative, mask=mask).double().eval()
    method.set_progress(t)
    slope = cosines(W, n, omega, mask)
    if clamp_negative:
        slope = slope.clamp_min(0)
    largest = 6 * 4 * omega / math.pi * 19
    scale = W.abs().mean()
    # the last angle is 2 * 18 + 1 times omega |v|, |v| at most 2, whose rounding moves a cosine by as many eps
    roundings = 64 + 128 * math.ceil(omega)
    assert_elementwise(scaled_weight_gradient(method, W, G), G * scale * slope, roundings, largest)
    assert_elementwise(scaled_input_gradient(method, W, G), G * slope, roundings, largest)


def test_clamp_negative_changes_the_end_of_the_schedule() -> None:
    """At omega = 0.1 and n = 18 the series is about -0.39 at |v| = 1, and 2.42 at 0."""
    v = torch.tensor([[1.0, -1.0, 0.0]], dtype=torch.float64)
    g = torch.ones_like(v)
    for clamp_negative, end in ((False, -0.39), (True, 0.0)):
        method = FDA(shape_of(W), clamp_negative=clamp_negative).double().eval()
        method.set_progress(1.0)
        assert scaled_input_gradient(method, v, g).tolist()[0] == pytest.approx([end, end, 2.42], abs=0.005)


def test_paper_has_no_mask() -> None:
    """At v = 1.5, omega = 0.1, n = 9: 0.4 / pi * sum cos((2i+1) 0.15) = 0.4 / pi * sin(3) / (2 sin(0.15)) = 0.0601."""
    v = torch.tensor([[1.5, -1.5, float("inf")]])
    g = torch.ones_like(v)
    for mask, beyond in (("paper", 0.0601), ("bibench", 0.0)):
        method = FDA(shape_of(W), mask=mask).eval()  # type: ignore[arg-type]
        found = scaled_input_gradient(method, v, g).tolist()[0]
        assert found == pytest.approx([beyond, beyond, 0.0], abs=1e-4)
    with pytest.raises(ValueError, match="FDA: mask must be one of 'paper', 'bibench'; got 'none'"):
        FDA(shape_of(W), mask="none")  # type: ignore[arg-type]


def test_schedules() -> None:
    method = FDA(shape_of(W))
    assert (method.n.item(), method.alpha.item()) == (9, pytest.approx(0.1))
    for t, n, alpha in ((0.0, 9, 0.1), (0.1, 9, 0.05 * (1 + math.cos(0.1 * math.pi))), (0.5, 13, 0.05), (1.0, 18, 0.0)):
        method.set_progress(t)
        assert (method.n.item(), method.alpha.item()) == (n, pytest.approx(alpha))
    assert method.alpha.item() == 0.0
    assert {"n", "alpha"} <= set(method.state_dict())


def noise_by_hand(v: list[float], down: Tensor, up: Tensor) -> list[float]:
    """ReLU(v W1) W2 + 0.1 sin(v), W1 = down^T, W2 = up^T."""
    hidden = [max(0.0, sum(down[j, i].item() * v[i] for i in range(len(v)))) for j in range(len(down))]
    linear = [sum(up[i, j].item() * hidden[j] for j in range(len(hidden))) for i in range(len(v))]
    return [a + 0.1 * math.sin(b) for a, b in zip(linear, v, strict=True)]


def test_training_adds_the_noise_along_filters_and_channels() -> None:
    torch.manual_seed(0)
    w = torch.randn(2, 3, 1, 2, dtype=torch.float64)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    method = FDA(shape_of(w)).double()
    alpha = method.alpha.item()
    noise = method.weight_noise
    found = method.weight(w).values.detach()
    for o in range(2):
        e = noise_by_hand(w[o].flatten().tolist(), noise.down.weight, noise.up.weight)
        signs = torch.where(w[o] >= 0, 1.0, -1.0).double().flatten()
        assert_elementwise(found[o].flatten(), signs + alpha * torch.tensor(e, dtype=torch.float64), 16, 2.0)
    noise = method.input_noise
    found = method.input(x).values.detach()
    for i in range(2):
        for r in range(2):
            for c in range(2):
                e = noise_by_hand(x[i, :, r, c].tolist(), noise.down.weight, noise.up.weight)
                signs = torch.where(x[i, :, r, c] >= 0, 1.0, -1.0).double()
                expected = signs + alpha * torch.tensor(e, dtype=torch.float64)
                assert_elementwise(found[i, :, r, c], expected, 16, 2.0)


def test_training_gradient_is_series_plus_noise() -> None:
    torch.manual_seed(1)
    w = torch.randn(2, 5, dtype=torch.float64)
    g = torch.randn_like(w)
    method = FDA(shape_of(w)).double()
    down, up = method.weight_noise.down.weight.detach(), method.weight_noise.up.weight.detach()
    active = (w @ down.T > 0).double()
    through_noise = ((g @ up) * active) @ down + g * 0.1 * torch.cos(w)
    expected = g * cosines(w, 9, 0.1) + method.alpha.item() * through_noise
    leaf = w.clone().requires_grad_()
    (found,) = torch.autograd.grad(method.weight(leaf).values, leaf, g)
    assert_elementwise(found, expected, 64, 10.0)
    assert active.any()


@pytest.mark.parametrize("last", [False, True])
def test_a_step_in_float32_is_that_in_float64(last: bool) -> None:
    """A weight whose noise runs native, one whose hidden layer is too wide for that, and inputs in both layouts."""
    torch.manual_seed(0)
    layout = torch.channels_last if last else torch.contiguous_format
    for shape in (LayerShape((5, 66, 3, 3)), LayerShape((3, 130, 3, 3))):
        method = FDA(shape)
        exact = copy.deepcopy(method).double()
        for part, size in (("weight", shape.weight), ("input", (3, shape.in_channels, 4, 5))):
            v = torch.randn(size).contiguous(memory_format=layout).requires_grad_()
            g = torch.randn(size)
            found, expected = (
                _with_gradients(m, part, t) for m, t in ((method, (v, g)), (exact, (v.detach().double(), g.double())))
            )
            assert found[0].is_contiguous(memory_format=layout)
            for mine, theirs in zip(found, expected, strict=True):
                assert_reduction(mine, theirs, v.numel(), 4.0 * theirs.abs().max())


def _with_gradients(method: FDA, part: str, given: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The values of a weight or an input, and the gradients of it and of its noise module."""
    v, g = given[0].requires_grad_(), given[1]
    values = getattr(method, part)(v).values
    module = getattr(method, f"{part}_noise")
    return values.detach(), *torch.autograd.grad(values, (v, module.down.weight, module.up.weight), g)


def test_second_derivatives_are_those_of_the_noise() -> None:
    torch.manual_seed(2)
    x, g = (torch.randn(9, 5, dtype=torch.float64) for _ in range(2))
    method = FDA(shape_of(x)).double()
    down, up = method.input_noise.down.weight, method.input_noise.up.weight

    def second(values: Tensor) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(values, (down, up), g, create_graph=True)
        return torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), (down, up))

    plain = method.alpha.double() * torch.relu(x @ down.T) @ up.T
    for mine, theirs in zip(second(method.input(x).values), second(plain), strict=True):
        torch.testing.assert_close(mine, theirs)
    leaf = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(method.input(leaf).values, leaf, g, create_graph=True)
    with pytest.raises(NotImplementedError, match="no derivative of its own"):
        first.sum().backward()  # type: ignore[no-untyped-call]


def test_the_noise_ends_with_the_schedule_and_with_training() -> None:
    x = torch.randn(4, 3)
    method = FDA(shape_of(W.float()))
    assert not method.input(x).values.abs().eq(1).all()
    assert not method.weight(W.float()).values.abs().eq(1).all()
    method.set_progress(1.0)
    assert method.input(x).values.abs().eq(1).all()
    assert method.weight(W.float()).values.abs().eq(1).all()
    method.set_progress(0.0)
    method.eval()
    assert method.input(x).values.abs().eq(1).all()
    assert method.weight(W.float()).values.abs().eq(1).all()


@pytest.mark.parametrize(("channels", "hidden"), [(16, 1), (64, 1), (127, 1), (128, 2), (200, 3)])
def test_noise_modules_exist_from_the_start_and_are_never_empty(channels: int, hidden: int) -> None:
    method = FDA(LayerShape((8, channels, 3, 3)))
    assert method.input_noise.down.weight.shape == (hidden, channels)
    assert method.input_noise.up.weight.shape == (channels, hidden)
    fan_in = channels * 9
    assert method.weight_noise.down.weight.shape == (max(1, fan_in // 64), fan_in)
    assert len(list(method.parameters())) == 4


def test_groups_give_the_input_noise_all_channels() -> None:
    layer = BinaryConv2d(6, 4, 3, groups=2, method=FDA)
    assert isinstance(layer.method, FDA)
    assert layer.method.input_noise.up.weight.shape == (6, 1)
    assert layer.method.weight_noise.up.weight.shape == (27, 1)
    assert layer(torch.randn(2, 6, 5, 5)).shape == (2, 4, 3, 3)


def test_bad_options_are_refused() -> None:
    for omega in (0.0, -0.1, 3.2, math.nan):
        with pytest.raises(ValueError, match=r"FDA: omega must lie in \(0, pi\]; got"):
            FDA(shape_of(W), omega=omega)
    with pytest.raises(ValueError, match="clamp_negative must be one of False, True; got 'yes'"):
        FDA(shape_of(W), clamp_negative="yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"FDA.set_progress: t must lie in \[0, 1\]"):
        FDA(shape_of(W)).set_progress(-1)
