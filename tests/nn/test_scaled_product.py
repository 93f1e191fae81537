# SPDX-License-Identifier: Apache-2.0
"""The product of real numbers with a scale, against torch's product and then its scale."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from _tolerance import assert_exact, assert_reduction
from bittern.nn.geometry import Geometry, accumulate
from bittern.nn.scaled_product import scaled_product

CASES = (
    ((7, 65), (5, 65), Geometry()),
    ((2, 3, 17), (4, 3, 3), Geometry((2,), (2,), (2,))),
    ((2, 6, 5, 6), (4, 3, 3, 2), Geometry((2, 1), (1, 2), (1, 2), 2, -1)),
)


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize(("x_shape", "w_shape", "geometry"), CASES)
def test_it_is_torchs_product(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], geometry: Geometry, one: bool
) -> None:
    torch.manual_seed(0)
    x, w, scale = (torch.randn(shape).requires_grad_() for shape in (x_shape, w_shape, (1 if one else w_shape[0],)))

    def plain(x: Tensor, w: Tensor, scale: Tensor) -> Tensor:
        y = accumulate(x, w, geometry)
        return y * scale.view(1, -1, *(1,) * (y.ndim - 2))

    y = scaled_product(x, w, scale, geometry)
    assert_exact(y.detach(), plain(x, w, scale).detach())
    g = torch.randn_like(y)
    exact = [t.detach().double().requires_grad_() for t in (x, w, scale)]
    expected = torch.autograd.grad(plain(*exact), exact, g.double())
    largest = g.abs().max() * 4 * w.abs().max() * x.abs().max() * w[0].numel()
    for mine, theirs in zip(torch.autograd.grad(y, (x, w, scale), g), expected, strict=True):
        assert_reduction(mine, theirs, y.numel(), largest)

    def second(product: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        first = torch.autograd.grad(product(*exact), exact, g.double(), create_graph=True)
        return torch.autograd.grad(sum(t.square().sum() for t in first), exact)  # type: ignore[arg-type]

    for mine, theirs in zip(second(lambda *t: scaled_product(*t, geometry)), second(plain), strict=True):
        torch.testing.assert_close(mine, theirs)
