# SPDX-License-Identifier: Apache-2.0
"""Tensors of four bytes that stand for large ones in a graph which keeps those in another form.

A product that does not save its operands makes their numbers again in backward. A second derivative
(`create_graph=True`) reaches the operands through links: tensors of their shape whose gradients are those of what they
stand for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def links(*operands: Tensor) -> tuple[Tensor, ...]:
    """One for each."""
    found: tuple[Tensor, ...] = _Links.apply(*operands)  # type: ignore[no-untyped-call]
    return found


def linked(link: Tensor, numbers: Tensor) -> Tensor:
    """Numbers whose gradient is that of a link."""
    found: Tensor = _Linked.apply(link, numbers)  # type: ignore[no-untyped-call]
    return found


class _Links(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *operands: Tensor) -> tuple[Tensor, ...]:
        made = tuple(_NOTHING.expand(t.shape) for t in operands)
        ctx.mark_non_differentiable(*(t for t, asks in zip(made, ctx.needs_input_grad, strict=True) if not asks))
        ctx.set_materialize_grads(False)
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads


_NOTHING = torch.zeros((), device="cpu")


class _Linked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, link: Tensor, numbers: Tensor) -> Tensor:
        return numbers.view_as(numbers)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
