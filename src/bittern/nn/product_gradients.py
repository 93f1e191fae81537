# SPDX-License-Identifier: Apache-2.0
"""The gradients of a product with a scale per output channel, none of which touches a tensor as large as the outputs.

Of y = conv(x, w) * scale with g the gradient of y,

    dx = conv^T(g, scale * w),   D = corr(x, g),   dw = scale * D,   dscale = sum over each filter of w * D,

the last because sum_p g_p acc_p = sum_p g_p sum_k w_k x_pk = sum_k w_k D_k over the positions p of an output channel.
So they are torch's but for the place of the rounding by the scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.nn.geometry import Geometry, accumulate, padded

Wanted = tuple[bool, bool, bool]
"""Whether x, w and the scale ask for a gradient."""


def lies_channels_last(x: Tensor) -> bool:
    """By the strides, which torch goes by also where one channel or one pixel leaves both layouts the same."""
    if x.ndim != 4:
        return False
    _, c, h, w = x.shape
    return x.stride() == (h * w * c, 1, w * c, c)


def over_outputs(scale: Tensor, ndim: int) -> Tensor:
    """[out] or [1] -> broadcastable to outputs of so many dimensions."""
    return scale.view(1, -1, *(1,) * (ndim - 2))


def gradients(
    g: Tensor, x: Tensor, w: Tensor, scale: Tensor | None, geometry: Geometry, wanted: Wanted
) -> tuple[Tensor | None, ...]:
    """Of x, w and scale, as the top of the file has them."""
    to_x, to_w, to_scale = wanted
    factor = None if scale is None else _over_filters(scale, w.ndim)
    if x.ndim == 4:
        last = lies_channels_last(x) or lies_channels_last(w)
        g = g.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    scaled = w if factor is None else w * factor
    dx, dw = _to_operands(g, x, scaled, geometry, (to_x, to_w or to_scale))
    d_scale = None
    if to_scale:
        assert scale is not None
        assert dw is not None
        d_scale = (w * dw).sum(tuple(range(1, w.ndim))).sum_to_size(scale.shape)
    if dw is not None and factor is not None:
        dw = dw.mul_(factor)
    return dx, dw if to_w else None, d_scale


def differentiable(
    g: Tensor, x: Tensor, w: Tensor, scale: Tensor | None, geometry: Geometry, wanted: Wanted
) -> tuple[Tensor | None, ...]:
    """The same as functions of x, w, scale and g that autograd follows."""
    y = accumulate(x, w, geometry)
    if scale is not None:
        y = y * over_outputs(scale, y.ndim)
    asked = [t for t, asks in zip((x, w, scale), wanted, strict=True) if asks and t is not None]
    found = iter(torch.autograd.grad(y, asked, g, create_graph=True))
    return tuple(next(found) if asks else None for asks in wanted)


def _over_filters(scale: Tensor, ndim: int) -> Tensor:
    return scale.view(-1, *(1,) * (ndim - 1))


def _to_operands(
    g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and w in the product without scale; that of w does not depend on the numbers of w."""
    if not geometry.stride:
        return g @ w if wanted[0] else None, g.t() @ x if wanted[1] else None
    padding = geometry.padding
    if geometry.pad_value == 0 or not wanted[1]:
        return _convolution_backward(g, x, w, geometry, padding, wanted)
    dx = _convolution_backward(g, x, w, geometry, padding, (True, False))[0] if wanted[0] else None
    return dx, _convolution_backward(g, padded(x, geometry), w, geometry, (0,) * len(padding), (False, True))[1]


def _convolution_backward(
    g: Tensor, x: Tensor, w: Tensor, geometry: Geometry, padding: tuple[int, ...], wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    stride, dilation, groups = geometry.stride, geometry.dilation, geometry.groups
    dx, dw, _ = torch.ops.aten.convolution_backward(
        g, x, w, None, stride, padding, dilation, False, (0,) * len(stride), groups, (*wanted, False)
    )
    return dx, dw
