# SPDX-License-Identifier: Apache-2.0
"""DoReFa-Net against arXiv 1606.06160."""

from __future__ import annotations

import math

import pytest
import torch

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from _tolerance import assert_elementwise, assert_mean
from bittern.binary import DoReFa
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import LevelsCode

W = torch.tensor([[0.5, -0.0, -2.0], [0.25, -1.0, 0.0]], dtype=torch.float64)
G = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], dtype=torch.float64)
X = torch.tensor([[-0.5, -0.0, 0.0], [0.25, 0.5, 0.75], [1.0, 1.0000001, 7.0]], dtype=torch.float64)


def test_one_bit_weights_are_signs_with_one_scale_for_the_layer() -> None:
    q = DoReFa(shape_of(W)).weight(W)
    assert q.values.tolist() == [[1, 1, -1], [1, -1, 1]]
    assert q.scale is not None
    assert q.scale.shape == ()
    assert_elementwise(q.scale, torch.tensor(3.75 / 6, dtype=torch.float64), 4, 1.0)
    assert not q.scale.requires_grad


def test_one_bit_weight_gradient_is_the_identity_on_the_scaled_weight() -> None:
    assert_elementwise(scaled_weight_gradient(DoReFa(shape_of(W)), W, G), G, 4, 6.0)


def test_a_layer_of_zeros_has_gradient_zero() -> None:
    assert torch.equal(scaled_weight_gradient(DoReFa(shape_of(W)), torch.zeros_like(W), G), torch.zeros_like(G))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_more_bits_follow_the_tanh_formula(bits: int) -> None:
    top = 2**bits - 1
    largest = math.tanh(2.0)
    q = DoReFa(shape_of(W), weight_bits=bits).weight(W)
    assert q.scale is not None
    assert q.scale.item() == 1 / top
    for v, found in zip(W.flatten().tolist(), q.values.flatten().tolist(), strict=True):
        m = round(top * (math.tanh(v) / (2 * largest) + 0.5))  # Python rounds half to even too
        assert found == 2 * m - top


def test_two_bit_values_by_hand() -> None:
    # tanh(w)/(2 tanh 2)+1/2 = .740, .5, 0 | .627, .105, .5; times 3, half to even: 2, 2, 0 | 2, 0, 2
    assert DoReFa(shape_of(W), weight_bits=2).weight(W).values.tolist() == [[1, 1, -3], [1, -3, 1]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_layer_of_zeros_becomes_plus_one(bits: int) -> None:
    w = torch.tensor([[0.0, -0.0]], requires_grad=True)
    q = DoReFa(shape_of(w), weight_bits=bits).weight(w)
    assert q.values.tolist() == [[1, 1]]
    (grad,) = torch.autograd.grad(q.values.sum(), w)
    assert grad.isfinite().all()


def test_more_bits_gradient_flows_through_tanh_and_maximum() -> None:
    """Rounding as identity: real weight = tanh(w)/max|tanh w|, differentiated by hand; the maximum is at W[0, 2]."""
    t, m = torch.tanh(W), math.tanh(2.0)
    through_max = (G * t).sum() / m**2  # d(t/m)/dm = -t/m^2; here m = -t[0, 2], so the sign turns
    by_t = G / m
    by_t[0, 2] += through_max
    expected = by_t * (1 - t**2)
    found = scaled_weight_gradient(DoReFa(shape_of(W), weight_bits=2), W, G)
    assert_elementwise(found, expected, 32, expected.abs().max())


def test_ties_share_the_gradient_of_the_maximum() -> None:
    w = torch.tensor([[2.0, -2.0, 0.5]], dtype=torch.float64)
    g = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    found = scaled_weight_gradient(DoReFa(shape_of(w), weight_bits=3), w, g)
    m, slope = math.tanh(2.0), 1 - math.tanh(2.0) ** 2
    half = -math.tanh(0.5) / m**2 / 2 * slope
    expected = torch.tensor([[half, -half, (1 - math.tanh(0.5) ** 2) / m]], dtype=torch.float64)
    assert_elementwise(found, expected, 32, 1.0)


def test_one_bit_inputs_are_zero_or_one_without_scale() -> None:
    q = DoReFa(shape_of(W)).input(X)
    assert q.values.tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, 1]]  # 0.5 is a tie: half to even is 0
    assert q.scale is None
    assert DoReFa(shape_of(W)).input_code() == LevelsCode(1)


def test_two_bit_inputs_are_integers_with_a_constant_scale() -> None:
    method = DoReFa(shape_of(W), input_bits=2)
    q = method.input(X)
    assert q.values.tolist() == [[0, 0, 0], [1, 2, 2], [3, 3, 3]]  # 3/2 rounds to 2, 9/4 to 2
    assert q.scale is not None
    assert q.scale.shape == ()
    assert q.scale.item() == 1 / 3
    assert method.input_code() == LevelsCode(2)
    assert method.input_bits == 2
    assert method.weight_bits == 1


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_input_gradient_is_masked_to_zero_one_inclusive(bits: int) -> None:
    g = torch.arange(1.0, 10.0, dtype=torch.float64).view_as(X)
    found = scaled_input_gradient(DoReFa(shape_of(W), input_bits=bits), X, g)
    expected = torch.tensor([0, 2, 3, 4, 5, 6, 7, 0, 0], dtype=torch.float64).view_as(X)
    assert_elementwise(found, expected, 2, 9.0)


def test_gradient_quantization_leaves_the_forward_pass_alone() -> None:
    y = torch.randn(3, 4, 5)
    method = DoReFa(shape_of(W), gradient_bits=4)
    assert torch.equal(method.output(y), y)


def test_gradient_quantization_lands_on_each_samples_own_grid_without_bias() -> None:
    torch.manual_seed(0)
    bits, top = 3, 7
    g = torch.tensor([[1.0, -1.0, 0.3, 0.0, -0.77], [0.02, 0.01, -0.013, 0.0, 0.004], [0.0, -0.0, 0.0, 0.0, 0.0]])
    method = DoReFa(shape_of(W), gradient_bits=bits)
    drawn = []
    for _ in range(2001):
        y = torch.zeros_like(g, requires_grad=True)
        (found,) = torch.autograd.grad(method.output(y), y, g)
        drawn.append(found)
    found = torch.stack(drawn)
    assert torch.equal(found[:, 2], g[2].expand_as(found[:, 2]))
    for row, largest in ((0, 1.0), (1, 0.02)):
        levels = (found[:, row].double() / (2 * largest) + 0.5) * top
        assert_elementwise(levels.float(), levels.round(), 8, top)
        assert levels.min() >= -1e-4
        assert levels.max() <= top + 1e-4
        for i in range(5):
            spread_of_rounding = 2 * largest / top / 2  # a grid step, times at most 1/2
            assert_mean(found[:, row, i], float(g[row, i]), spread_of_rounding)
    assert len(found[:, 0, 2].unique()) == 2  # stochastic: between two neighbours


def test_gradient_quantization_is_off_in_eval_mode_and_at_32_bits() -> None:
    g = torch.randn(2, 6)
    for method in (DoReFa(shape_of(W), gradient_bits=2).eval(), DoReFa(shape_of(W))):
        y = torch.zeros_like(g, requires_grad=True)
        (found,) = torch.autograd.grad(method.output(y), y, g)
        assert torch.equal(found, g)


def test_one_sample_does_not_touch_the_gradient_of_another() -> None:
    """The maximum is taken per sample: rescaling sample 0 leaves sample 1's quantized gradient as it was."""
    method = DoReFa(shape_of(W), gradient_bits=4)
    g = torch.randn(2, 3, 4)
    louder = torch.stack([g[0] * 100, g[1]])
    found = []
    for grad in (g, louder):
        torch.manual_seed(0)
        y = torch.zeros_like(g, requires_grad=True)
        found.append(torch.autograd.grad(method.output(y), y, grad)[0])
    assert torch.equal(found[0][1], found[1][1])


def test_layer_multiplies_both_scales() -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(3, 2, method=lambda shape: DoReFa(shape, weight_bits=2, input_bits=2))
    x = torch.rand(5, 3)
    w_real = 2 * torch.round(3 * (torch.tanh(layer.weight) / (2 * torch.tanh(layer.weight).abs().max()) + 0.5)) / 3 - 1
    expected = torch.round(x * 3).double() / 3 @ w_real.detach().double().T
    assert_elementwise(layer(x).detach(), expected, 16, 3.0)


def test_padding_with_a_sign_is_refused_by_the_layer() -> None:
    with pytest.raises(ValueError, match="pad_value"):
        BinaryConv2d(2, 2, 3, padding=1, pad_value=1, method=DoReFa)


def test_bits_out_of_range_are_refused() -> None:
    for option in ("weight_bits", "input_bits"):
        for bad in (0, 9, 32, 1.0, True):
            with pytest.raises(ValueError, match=rf"DoReFa: {option} must be an integer from 1 to 8; got {bad}"):
                DoReFa(shape_of(W), **{option: bad})  # type: ignore[arg-type]
    for bad in (0, 17, 31, 33):
        with pytest.raises(ValueError, match=r"gradient_bits must be one of 1, 2, .*16, 32"):
            DoReFa(shape_of(W), gradient_bits=bad)


def test_a_rounded_gradient_is_not_differentiated() -> None:
    y = torch.randn(2, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(DoReFa(shape_of(W), gradient_bits=4).output(y).square().sum(), y, create_graph=True)
    with pytest.raises(NotImplementedError, match="a rounded gradient has no derivative"):
        grad.sum().backward()
