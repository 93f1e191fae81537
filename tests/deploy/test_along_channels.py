# SPDX-License-Identifier: Apache-2.0
"""Known numbers for each channel that are added to a value or multiplied with it: one native map, exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_exact
from bittern.deploy import pack


class Mapped(nn.Module):
    """x * c, c * x, x + c, x - c and c - x in turn, c [channels] along the second dimension."""

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.randn(5, channels, *(1,) * (ndim - 2)))

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e = self.c
        y: Tensor = e - (((b * (x * a)) + c) - d)
        return y


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 7), (3,)])
def test_they_are_maps_and_exact(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = Mapped(3, len(shape) + 1)
    with torch.no_grad():
        model.c[0, 0], model.c[1, 1] = 0.0, -1e-30
    x = torch.randn(4, *shape)
    x[0] = 0.0
    packed = pack(model, x[:2])
    assert [node.kind for node in packed.program.nodes] == ["affine"] * 5
    assert_exact(packed(x), model(x).detach())


def test_what_changes_the_shape_stays_an_operator() -> None:
    class Spread(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.arange(1.0, 4.0).view(3, 1, 1)

    x = torch.randn(2, 1, 4, 4)
    packed = pack(Spread(), x)
    assert [node.kind for node in packed.program.nodes] == ["aten"]
    assert_exact(packed(x), Spread()(x))


def test_a_product_keeps_the_sign_of_a_zero_natively() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.tensor([2.0, 0.5]).view(2, 1, 1)

    x = torch.tensor([-0.0, 0.0, 1.0, -1.0]).view(1, 1, 2, 2).expand(1, 2, 2, 2).contiguous()
    assert_exact(pack(Scaled(), x)(x).signbit(), Scaled()(x).signbit())
