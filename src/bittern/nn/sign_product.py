# SPDX-License-Identifier: Apache-2.0
"""The product of a training step whose operands are bits: counted forward, and kept for backward, as bits.

    y = fl(acc * scale), acc = conv(x, w)      x in {-1, +1} or {0, 1}, w in {-1, +1}; scale [out] or [1], or none

Autograd would keep a float for each number of x and w, and for each accumulator where the scale learns. Here x and w
are kept as one bit a number and decoded where a gradient is computed, or not at all where they are signs of what an
estimator keeps (`estimators.origin`): those are taken again. `product_gradients` says what gradients are. The product
is counted by the packed kernels; with x = (s + 1) / 2, s = +-1 and -1 around the image,
acc = (conv(s, w) + sum of the filter) / 2. So y is torch's to the bit. A gradient is torch's but for the place of the
rounding by the scale.

Taken are plain float32 tensors on the CPU of which gradients are asked, and whose numbers *are* those two: that is
looked at, because the code of a method tells what it does in eval mode. Everything else torch multiplies: eval mode,
autocast, torch.compile, torch.export, torch.func, modes and traces that watch torch's operators.

A second derivative (`create_graph=True`) is that of torch's product of the numbers. It reaches x and w through `links`.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from bittern import ops
from bittern.estimators import Origin, linked, links, origin_of
from bittern.nn.geometry import Geometry, accumulate
from bittern.nn.product_gradients import differentiable, gradients, lies_channels_last, over_outputs

LEAST_PRODUCTS = 2**24
"""Of numbers of x and w. torch multiplies fewer in the time that the calls from Python around the kernels take."""


def sign_product(x: Tensor, w: Tensor, scale: Tensor | None, geometry: Geometry, low: int) -> Tensor | None:
    """fl(accumulate(x, w, geometry) * scale), or None where torch has to multiply; x in {low, 1}, low -1 or 0.

    `geometry.pad_value` is 0 where low is.
    """
    if not may_take(x, w, geometry) or not (scale is None or is_plain(scale)):
        return None
    numbers = _dense(x.detach()), _dense(w.detach())
    bits = ops.flat_bits(numbers[0], low), ops.flat_bits(numbers[1], -1)
    if bits[0] is None or bits[1] is None:
        return None
    kept = _kept(x, numbers[0], bits[0], low), _kept(w, numbers[1], bits[1], -1)
    y: Tensor = _SignProduct.apply(*links(x, w), scale, *numbers, bits, kept, geometry, low)  # type: ignore[no-untyped-call]
    return y


def may_take(x: Tensor, w: Tensor, geometry: Geometry) -> bool:
    """Whether `sign_product` would look at the numbers of these two."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or not (x.requires_grad or w.requires_grad):
        return False
    if not (is_plain(x) and is_plain(w)) or _is_watched():
        return False
    return x.numel() // x.shape[1] * w.numel() >= LEAST_PRODUCTS * math.prod(geometry.stride)


def is_plain(t: Tensor) -> bool:
    """Whether t is an ordinary float32 tensor in main memory."""
    plain = type(t) is Tensor or type(t) is nn.Parameter
    return plain and t.dtype == torch.float32 and t.is_cpu and t.layout is torch.strided


def _is_watched() -> bool:
    """Whether somebody asks torch's own operators for more than their result."""
    return bool(
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._get_tracing_state() is not None
        or torch.is_autocast_enabled("cpu")
    )


class _SignProduct(torch.autograd.Function):
    """See the top of the file. x and w come as links, which gradients go to, as numbers, as their bits and as what is
    kept of them."""

    @staticmethod
    def forward(
        ctx: Any,
        x_link: Tensor,
        w_link: Tensor,
        scale: Tensor | None,
        x: Tensor,
        w: Tensor,
        bits: tuple[Tensor, Tensor],
        kept: tuple[Origin, Origin],
        geometry: Geometry,
        low: int,
    ) -> Tensor:
        of_x, of_w = kept
        ctx.save_for_backward(scale, *of_x.tensors, *of_w.tensors)
        ctx.set_materialize_grads(False)
        # no saved tensors: what a hook stores of them would be as large as they look
        ctx.links = x_link, w_link
        ctx.again, ctx.first_of_w = (of_x.again, of_w.again), 1 + len(of_x.tensors)
        ctx.geometry = geometry
        return _counted(x, w, bits, scale, geometry, low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (g,) = grads
        if g is None:
            return (None,) * 9
        saved, first_of_w = ctx.saved_tensors, ctx.first_of_w
        scale, (x_again, w_again) = saved[0], ctx.again
        x, w = x_again(*saved[1:first_of_w]), w_again(*saved[first_of_w:])
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            x, w = (linked(link, t) for link, t in zip(ctx.links, (x, w), strict=True))
            found = differentiable(g, x, w, scale, ctx.geometry, wanted)
        else:
            found = gradients(g, x, w, scale, ctx.geometry, wanted)
        return *found, None, None, None, None, None, None


def _kept(values: Tensor, numbers: Tensor, bits: Tensor, low: int) -> Origin:
    """What backward makes the numbers of `values` from."""
    origin = origin_of(values)
    if origin is not None and numbers.stride() == values.stride():
        return origin
    decode = partial(ops.from_flat_bits, shape=numbers.shape, stride=numbers.stride(), low=low)
    return Origin((bits,), decode)


def _dense(x: Tensor) -> Tensor:
    """x if it lies without gaps in a layout of torch's, else a contiguous copy."""
    return x if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


# ---- forward


def _counted(
    x: Tensor, w: Tensor, bits: tuple[Tensor, Tensor], scale: Tensor | None, geometry: Geometry, low: int
) -> Tensor:
    """y; bits: those of x and of w in the order of memory."""
    if ops.chosen_isa() is ops.Isa.SCALAR:  # counts no faster than torch multiplies
        y = accumulate(x, w, geometry)
        return y if scale is None else y.mul_(over_outputs(scale, y.ndim))
    epilogue = _epilogue(w, scale, low)
    if not geometry.stride:
        words, filters = (ops.rows_of_bits(b, *t.shape) for b, t in zip(bits, (x, w), strict=True))
        return ops.PreparedMatmul(filters, x.shape[1], epilogue)(words)
    words, filters = _pixels(x, bits[0], low), _pixels(w, bits[1], -1)
    y = _convolved(words, filters, x.shape[1], geometry if low else geometry._replace(pad_value=-1), epilogue)
    y = _laid_out(y, lies_channels_last(x) or lies_channels_last(w))
    return y.squeeze(2) if x.ndim == 3 else y


@cache
def _no_effect(outputs: int) -> Tensor:
    """[4, out]: fma(fl(fl(acc + -0) * 1), 1, -0); adding -0 leaves +0 and -0 what they are."""
    return torch.tensor(((-0.0,), (1.0,), (1.0,), (-0.0,)), device="cpu").repeat(1, outputs)


def _epilogue(w: Tensor, scale: Tensor | None, low: int) -> Tensor:
    """[4, out]: fma(fl(fl(acc + offset) * half), scale, -0)."""
    rows = _no_effect(w.shape[0])
    if low == -1 and scale is None:
        return rows
    rows = rows.clone()
    if low == 0:
        rows[0], rows[1] = w.sum(tuple(range(1, w.ndim))), 0.5
    if scale is not None:
        rows[2].copy_(scale.expand(len(w)))
    return rows


def _pixels(x: Tensor, bits: Tensor, low: int) -> Tensor:
    """x [n, channels, *space] packed along its channels: [n, height, width, words]."""
    if lies_channels_last(x):
        n, channels, h, w = x.shape
        return ops.rows_of_bits(bits, n * h * w, channels).view(n, h, w, -1)
    return _packer(x.shape[1], low)((x.unsqueeze(2) if x.ndim == 3 else x).permute(0, 2, 3, 1))


@cache
def _packer(channels: int, low: int) -> ops.PreparedPack:
    """Packs 1 as a 1 and low as a 0."""
    return ops.PreparedPack(None if low else torch.ones(channels, device="cpu"))


def _convolved(words: Tensor, filters: Tensor, channels: int, geometry: Geometry, epilogue: Tensor) -> Tensor:
    stride, padding, dilation, groups, pad_value = geometry
    if len(stride) == 1:
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    return ops.PreparedConv2d(filters, channels, stride, padding, dilation, groups, pad_value, epilogue)(words)


def _laid_out(y: Tensor, channels_last: bool) -> Tensor:
    """y [n, h, w, channels] as torch's convolution gives it: [n, channels, h, w] in the layout of its operands."""
    if not channels_last:
        return y.movedim(-1, 1).contiguous()
    n, h, w, channels = y.shape
    # a tensor of its own, no view, so that the next layer may work in place
    strides = (h * w * channels, 1, w * channels, channels)
    return y.new_empty(0).set_(y.untyped_storage(), 0, (n, channels, h, w), strides)
