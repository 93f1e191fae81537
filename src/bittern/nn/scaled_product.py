# SPDX-License-Identifier: Apache-2.0
"""The product of a training step whose operands are real numbers, times a scale per output channel.

As autograd follows the two, but without a second tensor as large as the outputs, forward or backward: y is scaled where
it lies, and the scale goes into the weight for its gradients (`product_gradients`). So y has torch's bits.

An operand that can be computed again from what the graph keeps anyway (`estimators.origin`) is not kept: FDA's signs
with their noise. The graph then has a link in its place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.estimators import Origin, linked, links, origin_of
from bittern.nn.geometry import Geometry, accumulate
from bittern.nn.product_gradients import differentiable, gradients, over_outputs

Origins = tuple[Origin | None, Origin | None]
"""Of x and w; None: the operand itself is kept."""


def scaled_product(x: Tensor, w: Tensor, scale: Tensor, geometry: Geometry) -> Tensor:
    """fl(accumulate(x, w, geometry) * scale), scale [out] or [1], for operands that `sign_product.may_take` takes."""
    origins = origin_of(x), origin_of(w)
    places = (t if origin is None else links(t)[0] for t, origin in zip((x, w), origins, strict=True))
    y: Tensor = _ScaledProduct.apply(*places, scale, x.detach(), w.detach(), geometry, origins)  # type: ignore[no-untyped-call]
    return y


class _ScaledProduct(torch.autograd.Function):
    """x_place, w_place: the operands, or links to those that have an origin."""

    @staticmethod
    def forward(
        ctx: Any,
        x_place: Tensor,
        w_place: Tensor,
        scale: Tensor,
        x: Tensor,
        w: Tensor,
        geometry: Geometry,
        origins: Origins,
    ) -> Tensor:
        kept = [(place,) if o is None else o.tensors for place, o in zip((x_place, w_place), origins, strict=True)]
        ctx.save_for_backward(scale, *kept[0], *kept[1])
        ctx.links = tuple(None if o is None else place for place, o in zip((x_place, w_place), origins, strict=True))
        ctx.again = tuple(None if o is None else o.again for o in origins)
        ctx.geometry, ctx.first_of_w = geometry, 1 + len(kept[0])
        y = accumulate(x, w, geometry)
        return y.mul_(over_outputs(scale, y.ndim))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, first_of_w = ctx.saved_tensors, ctx.first_of_w
        kept = saved[1:first_of_w], saved[first_of_w:]
        x, w = (_restored(*given) for given in zip(kept, ctx.again, ctx.links, strict=True))
        work_out = differentiable if torch.is_grad_enabled() else gradients
        found = work_out(grads[0], x, w, saved[0], ctx.geometry, ctx.needs_input_grad[:3])
        return *found, None, None, None, None


def _restored(kept: tuple[Tensor, ...], again: Any, link: Tensor | None) -> Tensor:
    if link is None:
        return kept[0]
    numbers = again(*kept)
    return linked(link, numbers) if torch.is_grad_enabled() else numbers
