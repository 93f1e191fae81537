# SPDX-License-Identifier: Apache-2.0
"""A few parameters of odd sizes and gradients for them, for tests that compare two optimizers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

SHAPES = ((70, 90), (5000,), (3, 4, 5, 6), (257,), (1,), ())


def parameters(shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """The same values at every call."""
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def train(optimizer: torch.optim.Optimizer, params: Sequence[Tensor], steps: int, start: int = 0) -> None:
    """Steps with gradients that depend on the step's number and on the parameters."""
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(1000 + step)
        for p in params:
            noise = torch.randn(p.shape, generator=generator).to(p)
            p.grad = (0.1 * noise + 0.02 * p.detach()).to(p.dtype)
        optimizer.step()


def moved(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], steps: int = 50) -> list[Tensor]:
    """How far every parameter got."""
    params = parameters()
    before = [p.detach().clone() for p in params]
    train(make(params), params, steps)
    return [p.detach() - b for p, b in zip(params, before, strict=True)]


def goes_on_from_a_file(
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    params: list[nn.Parameter],
    twins: list[nn.Parameter],
    steps: int,
    further: int,
) -> dict[str, Any]:
    """The state_dict of a run of both lengths, which must be that of one saved and loaded in between."""
    optimizer, twin = make(params), make(twins)
    train(optimizer, params, steps)
    with torch.no_grad():
        for p, q in zip(params, twins, strict=True):
            q.copy_(p)
    twin.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, params, further, start=9)
    train(twin, twins, further, start=9)
    assert all(torch.equal(p, q) for p, q in zip(params, twins, strict=True))
    assert same(optimizer.state_dict(), twin.state_dict())
    return optimizer.state_dict()


def relative_error(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """|a - b| / |b| over all tensors together."""
    difference = torch.cat([(x - y).flatten() for x, y in zip(a, b, strict=True)])
    return float(difference.norm() / torch.cat([y.flatten() for y in b]).norm())


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal, tensors bit for bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)
