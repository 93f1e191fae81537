# SPDX-License-Identifier: Apache-2.0
"""RSign and RPReLU against the paper's formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from _tolerance import assert_exact
from bittern.nn import RPReLU, RSign

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


@pytest.mark.parametrize("cls", [RSign, RPReLU])
def test_wrong_inputs_are_refused(cls: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="at least one channel"):
        cls(0)
    with pytest.raises(ValueError, match=r"expected an input \[batch, 3, \*space\]; got \[2, 4\]"):
        cls(3)(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="floating point"):
        cls(3)(torch.zeros(2, 3, dtype=torch.int32))
