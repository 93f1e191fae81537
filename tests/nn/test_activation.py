# SPDX-License-Identifier: Apache-2.0
"""RSign and RPReLU against the paper's formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from _tolerance import assert_exact
from bittern.binary import BNN
from bittern.deploy import pack
from bittern.nn import BinaryConv2d, PowerOfTwoRPReLU, RPReLU, RSign

SHAPES = [(4, 3), (4, 3, 5), (4, 3, 5, 6)]


@pytest.mark.parametrize("shape", SHAPES)
def test_rsign_is_the_sign_of_the_shifted_channel(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rsign = RSign(3)
    x = torch.randn(shape)
    assert_exact(rsign(x).detach(), torch.where(x >= 0, 1.0, -1.0))
    nn.init.constant_(rsign.shift[1:2], 0.75)
    x.select(1, 1).fill_(-0.75)
    assert bool((rsign(x).select(1, 1) == 1).all()), "sign(0) must be +1"
    shifted = x + torch.tensor([0.0, 0.75, 0.0]).view(1, 3, *(1,) * (len(shape) - 2))
    assert_exact(rsign(x).detach(), torch.where(shifted >= 0, 1.0, -1.0))


@pytest.mark.parametrize("shape", SHAPES)
def test_rsign_gradient_is_a_triangle(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rsign = RSign(3)
    nn.init.uniform_(rsign.shift, -0.5, 0.5)
    x = torch.randn(shape, requires_grad=True)
    g = torch.randn(shape)
    rsign(x).backward(g)
    shifted = x.detach() + rsign.shift.detach().view(1, 3, *(1,) * (len(shape) - 2))
    expected = g * (2 - 2 * shifted.abs()).clamp_min(0)
    assert x.grad is not None
    assert rsign.shift.grad is not None
    assert_exact(x.grad, expected)
    torch.testing.assert_close(rsign.shift.grad, expected.transpose(0, 1).flatten(1).sum(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_rprelu_is_prelu_between_two_shifts(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    rprelu = RPReLU(3)
    x = torch.randn(shape)
    assert_exact(rprelu(x).detach(), torch.where(x > 0, x, 0.25 * x))
    for p in rprelu.parameters():
        nn.init.uniform_(p, -1, 1)
    before, slope, after = (p.detach().view(1, 3, *(1,) * (len(shape) - 2)) for p in rprelu.parameters())
    t = x - before
    assert_exact(rprelu(x).detach(), torch.where(t > 0, t, slope * t) + after)


def test_rprelu_gradient_in_float64() -> None:
    torch.manual_seed(0)
    rprelu = RPReLU(3).double()
    for p in rprelu.parameters():
        nn.init.uniform_(p, -1, 1)
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in rprelu.named_parameters()]

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        result = torch.func.functional_call(rprelu, dict(zip(names, values, strict=True)), x)
        assert isinstance(result, torch.Tensor)
        return result

    assert torch.autograd.gradcheck(call, (x, *rprelu.parameters()))


@pytest.mark.parametrize("cls", [RSign, RPReLU, PowerOfTwoRPReLU])
def test_wrong_inputs_are_refused(cls: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        cls(0)
    with pytest.raises(ValueError, match=r"expected an input \[batch, 3, \*space\]; got \[2, 4\]"):
        cls(3)(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="floating point"):
        cls(3)(torch.zeros(2, 3, dtype=torch.int32))


def test_slopes_are_powers_of_two_to_the_bit() -> None:
    act = PowerOfTwoRPReLU(252)
    assert act.slope.tolist() == [0.125] * 252
    with torch.no_grad():
        act.exponent.copy_(torch.arange(-126.0, 126.0) + torch.linspace(-0.4, 0.4, 252))
    assert act.slope.tolist() == [2.0**n for n in range(-126, 126)]
    small = PowerOfTwoRPReLU(3)
    with torch.no_grad():
        small.exponent.copy_(torch.tensor([-2.5, 0.5, 1.5]))  # ties go to even
    assert small.slope.tolist() == [0.25, 1.0, 4.0]


def test_power_of_two_rprelu_by_hand_and_packed() -> None:
    act = PowerOfTwoRPReLU(2)
    with torch.no_grad():
        act.exponent.copy_(torch.tensor([-1.2, 1.1]))
        act.before.copy_(torch.tensor([1.0, -1.0]))
        act.after.copy_(torch.tensor([0.5, 0.25]))
    x = torch.tensor([[[3.0, -1.0], [1.0, -4.0]]])
    # channel 0: 2 -> 2.5 and -2 / 2 -> -0.5; channel 1: 2 -> 2.25 and -3 * 2 -> -5.75
    y = act(x)
    assert y.tolist() == [[[2.5, -0.5], [2.25, -5.75]]]
    y.sum().backward()
    assert act.exponent.grad is not None
    assert torch.allclose(act.exponent.grad, math.log(2.0) * torch.tensor([-2.0 * 0.5, -3.0 * 2.0]))
    torch.manual_seed(0)
    model = torch.nn.Sequential(BinaryConv2d(2, 2, 3, method=BNN), act).eval()
    images = torch.randn(3, 2, 5, 5)
    packed = pack(model, images[:1])
    assert "rprelu" in str([node.kind for node in packed.program.nodes])
    assert torch.equal(packed(images), model(images))
