# SPDX-License-Identifier: Apache-2.0
"""Estimators against the formulas that they claim, written out here a second time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from _binary import SPECIAL
from _tolerance import assert_elementwise, assert_exact
from bittern.estimators import (
    ApproxSign,
    Clip,
    ErrorDecay,
    Estimator,
    Fourier,
    Levels,
    Plateaus,
    Power,
    SwishSign,
    Triangle,
    binarize,
    estimate,
    straight_through,
    without_scale,
)

ONE = torch.ones(())
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binarize_is_exactly_plus_or_minus_one_and_sign_of_zero_is_plus_one(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 0.5, -0.5, 3.0, -3.0, float("inf"), float("-inf")], dtype=dtype, requires_grad=True)
    y = binarize(x, Clip())
    assert y.dtype == dtype
    assert y.tolist() == [1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0]


def test_binarize_multiplies_the_gradient_by_the_derivative() -> None:
    x = torch.tensor([-2.0, 0.0, 0.5], requires_grad=True)
    binarize(x, torch.tensor([0.0, 2.0, -3.0])).backward(torch.tensor([5.0, 7.0, 11.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 14.0, -33.0]


def test_binarize_without_derivative_is_the_identity_backward() -> None:
    x = torch.tensor([-20.0, 0.0, 0.5], requires_grad=True)
    g = torch.tensor([5.0, 7.0, 11.0])
    binarize(x).backward(g)
    assert x.grad is not None
    assert torch.equal(x.grad, g)
    assert g.tolist() == [5.0, 7.0, 11.0]


def test_straight_through_returns_the_values_bit_for_bit() -> None:
    x = torch.randn(SPECIAL.shape, requires_grad=True)
    y = straight_through(SPECIAL, x)
    assert_exact(y.detach(), SPECIAL)  # also -0.0
    y.backward(torch.full_like(SPECIAL, 3.0))
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(SPECIAL, 3.0))


def test_clip_is_inclusive_or_strict_at_the_limit() -> None:
    x = torch.tensor([-1.5, -1.25, -1.0, 0.0, 1.0, 1.25, 1.5])
    assert Clip().derivative(x).tolist() == [0, 0, 1, 1, 1, 0, 0]
    assert Clip(strict=True).derivative(x).tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert Clip(1.25).derivative(x).tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert Clip(1.25, strict=True).derivative(x).tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_approx_sign_is_the_derivative_of_the_piecewise_quadratic() -> None:
    x = torch.linspace(-1.75, 1.75, 29, dtype=torch.float64, requires_grad=True)
    inner = torch.where(x < 0, 2 * x + x**2, 2 * x - x**2)
    f = torch.where(x < -1, -1.0, torch.where(x >= 1, 1.0, inner))
    (expected,) = torch.autograd.grad(f.sum(), x)
    assert_elementwise(ApproxSign().derivative(x), expected, 2, 2.0)
    edges = torch.tensor([0.0, -0.0, 0.25, -1.0, 1.0, float("inf")])
    assert ApproxSign().derivative(edges).tolist() == [2, 2, 1.5, 0, 0, 0]


def test_power_is_the_derivative_of_a_root_but_near_zero_and_far_away() -> None:
    x = torch.tensor([-1.5, -0.3, 0.2, 1.0], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad((torch.sgn(x) * x.abs() ** (1 / 2.5)).sum(), x)
    o = torch.tensor(2.5, dtype=torch.float64)
    assert_elementwise(Power(o, 0.1, 1.5).derivative(x), expected, 8, 2.0)
    near = torch.tensor([0.0, -0.0, 0.1, -0.05, 1.51, -math.inf, math.nan], dtype=torch.float64)
    secant = 0.1 ** (1 / 2.5) / 0.1
    exact = torch.tensor([secant, secant, secant, secant, 0, 0, 0], dtype=torch.float64)
    assert_elementwise(Power(o, 0.1, 1.5).derivative(near), exact, 8, secant)


def test_triangle_has_its_height_and_its_feet() -> None:
    t, k = torch.tensor(0.5, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    x = torch.tensor([0.0, -1.0, 2.0, 2 * math.sqrt(2), -3.0, math.inf], dtype=torch.float64)
    height = math.sqrt(2)  # sqrt(2) k t
    exact = torch.tensor([height, height - 0.5, height - 1.0, 0, 0, 0], dtype=torch.float64)
    assert_elementwise(Triangle(t, k).derivative(x), exact, 8, height)


@pytest.mark.parametrize(("t", "k"), [(1e-3, 1e3), (0.1, 10.0), (1.0, 1.0), (10.0, 1.0)])
def test_error_decay_is_the_derivative_of_k_tanh(t: float, k: float) -> None:
    x = torch.linspace(-3, 3, 25, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad((k * torch.tanh(t * x)).sum(), x)
    tensors = (torch.tensor(t, dtype=torch.float64), torch.tensor(k, dtype=torch.float64))
    assert_elementwise(ErrorDecay(*tensors).derivative(x), expected, 8, k * t)


def cosine_sum(x: torch.Tensor, n: int, omega: float) -> torch.Tensor:
    total = sum(torch.cos((2 * i + 1) * omega * x) for i in range(n + 1))
    return 4 * omega / math.pi * total * (x.abs() <= 1)


@pytest.mark.parametrize("omega", [0.1, 1.0, math.pi / 2, 2.0, 3.0, math.pi])
@pytest.mark.parametrize("n", [0, 9, 18])
def test_fourier_closed_form_equals_the_sum_of_cosines(omega: float, n: int) -> None:
    near_zero = torch.tensor([0.0, -0.0, 1e-300, -1e-12, 1e-6, 1.0, -1.0, 1.0001, -7.0], dtype=torch.float64)
    x = torch.cat([near_zero, torch.linspace(-1, 1, 401, dtype=torch.float64)])
    largest = 4 * omega / math.pi * (n + 1)
    # the last angle is (2n+1) omega x: its own rounding moves a cosine by as many eps as the angle is large
    roundings = 8 + math.ceil((2 * n + 2) * omega)
    for values in (x, x.float()):
        exact = cosine_sum(values.double(), n, omega)
        assert_elementwise(Fourier(torch.tensor(n), omega).derivative(values), exact, roundings, largest)


@pytest.mark.parametrize("omega", [0.1, 1.0, math.pi / 2, 2.0, math.pi])
@pytest.mark.parametrize("n", [0, 9, 18])
def test_fourier_without_a_limit_goes_on_as_the_sum_does(omega: float, n: int) -> None:
    x = torch.cat([torch.linspace(-9, 9, 901, dtype=torch.float64), math.pi / omega * torch.arange(-3.0, 4.0).double()])
    exact = 4 * omega / math.pi * sum(torch.cos((2 * i + 1) * omega * x) for i in range(n + 1))
    largest = 4 * omega / math.pi * (n + 1)
    roundings = 8 + 4 * math.ceil((2 * n + 2) * omega * float(x.abs().max()))
    assert_elementwise(Fourier(torch.tensor(n), omega, None).derivative(x), exact, roundings, largest)
    for_ever = torch.tensor([float("inf"), float("-inf")])
    assert Fourier(torch.tensor(n), omega, None).derivative(for_ever).tolist() == [0, 0]


def test_fourier_has_the_published_check_values() -> None:
    at = torch.tensor([0.0, 1.0, -1.0], dtype=torch.float64)
    assert Fourier(torch.tensor(9), 0.1).derivative(at)[0].item() == pytest.approx(1.27, abs=0.005)
    assert Fourier(torch.tensor(18), 0.1).derivative(at)[0].item() == pytest.approx(2.42, abs=0.005)
    assert Fourier(torch.tensor(18), 0.1).derivative(at)[1:].tolist() == pytest.approx([-0.39, -0.39], abs=0.005)
    crossing = math.pi / (2 * 19 * 0.1)
    near = torch.tensor([crossing - 1e-6, crossing + 1e-6], dtype=torch.float64)
    around = Fourier(torch.tensor(18), 0.1).derivative(near)
    assert around[0] > 0 > around[1]


def test_fourier_is_zero_beyond_the_mask_also_at_infinity() -> None:
    x = torch.tensor([1.5, -1.0000001, float("inf"), float("-inf")], dtype=torch.float64)
    assert Fourier(torch.tensor(9), 0.1).derivative(x).tolist() == [0, 0, 0, 0]


def test_without_scale_divides_and_gives_zero_where_there_is_no_scale() -> None:
    derivative = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    scale = torch.tensor([[0.5], [0.0], [1e-45]])
    assert without_scale(derivative, scale).tolist() == [[2, 4], [0, 0], [0, 0]]
    least = torch.finfo(torch.float32).tiny
    assert without_scale(torch.ones(1), torch.tensor([least])).isfinite().all()


BENT = (
    ApproxSign(),
    ErrorDecay(ONE, ONE),
    Fourier(torch.tensor(1), 1.0),
    Power(2 * ONE, 0.1, 1.5),
    Triangle(ONE, ONE),
    SwishSign(5.0),
)


@pytest.mark.parametrize("bent", BENT, ids=lambda bent: type(bent).__name__)
def test_a_second_derivative_is_right_or_refused(bent: Estimator) -> None:
    x = torch.linspace(-1.5, 1.5, 13, requires_grad=True)
    slope = torch.linspace(1.0, 2.0, 13)
    plain = x.detach().requires_grad_()
    (binarize(plain, bent) * slope).sum().backward()
    (grad,) = torch.autograd.grad((binarize(x, bent) * slope).sum(), x, create_graph=True)
    assert plain.grad is not None
    assert_exact(grad.detach(), plain.grad)
    with pytest.raises(NotImplementedError, match="the derivative of a sign has no derivative of its own"):
        grad.sum().backward()


def test_second_derivatives_of_what_is_constant_in_pieces() -> None:
    x = torch.linspace(-1.5, 1.5, 13, requires_grad=True)
    slope = torch.linspace(1.0, 2.0, 13)
    inside = Clip().derivative(x)
    # (s clip)^2 summed over: d/dx s^2 clip^2 = 0, d/ds = 2 s clip, where s = sign(x) has the derivative clip again
    (grad,) = torch.autograd.grad((binarize(x, Clip()).square() * slope).sum(), x, create_graph=True)
    grad.sum().backward()
    assert x.grad is not None
    assert_exact(x.grad, 2.0 * inside * inside * slope)


PLATEAUS = Plateaus(torch.tensor(3.0)), Plateaus(torch.tensor(3.0), torch.tensor(0.3), strict=True)
PIECES = (Clip(), Clip(1.3, strict=True), Levels(), Levels(3), *PLATEAUS)
EVERY = (*PIECES, *BENT, Fourier(torch.tensor(9), 0.1, None, rising=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("estimator", EVERY, ids=str)
def test_backward_is_the_gradient_times_the_derivative(estimator: Estimator, dtype: torch.dtype) -> None:
    """Whatever the order of memory, which stays; with the formula's bits where it has no transcendental function."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 7).to(dtype)
    x.view(-1)[: len(SPECIAL)] = SPECIAL.to(dtype)
    g = torch.randn(2, 5, 3, 7).to(dtype)
    for layout in (torch.contiguous_format, torch.channels_last):
        for order in (torch.contiguous_format, torch.channels_last):
            leaf = x.clone(memory_format=layout).requires_grad_()
            y = estimate(leaf, estimator)
            assert y.is_contiguous(memory_format=layout)
            assert torch.equal(y, estimator.values(x))
            (found,) = torch.autograd.grad(y, leaf, g.contiguous(memory_format=order))
            assert found.is_contiguous(memory_format=layout)
            if isinstance(estimator, ErrorDecay | Fourier | Power | Triangle | SwishSign):
                assert_elementwise(found, (g.double() * estimator.derivative(x.double())), 64, 16.0)
            else:
                assert_exact(found.contiguous(), g * estimator.derivative(x))


def test_what_backward_keeps() -> None:
    """A bit an element, or the input itself: no tensor of derivatives."""
    kept: list[Tensor] = []
    x = torch.randn(3, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        for estimator in EVERY:
            estimate(x, estimator)
    sizes = [t.untyped_storage().nbytes() for t in kept if t.untyped_storage().data_ptr() != x.data_ptr()]
    assert sum(sizes) <= len(PIECES) * 24 + 8 * 3 + 4 * 6


def test_not_a_number_gets_the_gradient_of_the_formula() -> None:
    x = torch.tensor([float("nan"), 0.5])
    for estimator, expected in ((Clip(), 0.0), (Levels(), 0.0), (Fourier(ONE.long(), 1.0), 0.0), (ApproxSign(), None)):
        leaf = x.clone().requires_grad_()
        estimate(leaf, estimator).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad[1].isfinite()
        assert leaf.grad[0].isnan() if expected is None else leaf.grad[0] == expected
        assert estimator.derivative(x)[0].isnan() if expected is None else estimator.derivative(x)[0] == expected
        assert_elementwise(leaf.grad[1:], estimator.derivative(x[1:].double()), 8, 2.0)


def test_constants_count_as_they_are_at_the_forward_pass() -> None:
    x = torch.linspace(-1.0, 1.0, 9, requires_grad=True)
    t, k = torch.tensor(1.0), torch.tensor(2.0)
    expected = ErrorDecay(t.clone(), k.clone()).derivative(x.detach().double())
    y = binarize(x, ErrorDecay(t, k))
    t.fill_(10.0)
    k.fill_(1.0)
    y.sum().backward()
    assert x.grad is not None
    assert_elementwise(x.grad, expected, 8, 2.0)


@pytest.mark.parametrize("estimator", EVERY, ids=str)
def test_derivatives_inside_torch_func(estimator: Estimator) -> None:
    x = torch.linspace(-1.5, 1.5, 13)
    found = torch.func.grad(lambda x: (estimate(x, estimator) * 3.0).sum())(x)
    assert_exact(found, 3.0 * estimator.derivative(x))


def test_a_derivative_that_autograd_can_follow_is_followed() -> None:
    x = torch.linspace(-1.0, 1.0, 9, requires_grad=True)
    (grad,) = torch.autograd.grad(binarize(x, 1.0 - x.square()).sum(), x, create_graph=True)
    grad.sum().backward()
    assert x.grad is not None
    assert_exact(x.grad, -2.0 * x.detach())
