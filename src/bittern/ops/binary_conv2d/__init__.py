# SPDX-License-Identifier: Apache-2.0
"""binary_conv2d(x, w, channels, ...): 2-d convolution of packed +-1 tensors, exact.

x: int64 [batch, height, width, ceil(channels / 64)], packed along all channels (NHWC, `pack_signs`).
w: int64 [out, kernel_h, kernel_w, ceil(channels / groups / 64)], packed along the channels of its group.
stride, padding, dilation: [h, w]; pad_value: the value of padding, 0 (adds nothing), -1 or +1.
-> int32 [batch, out_h, out_w, out]: acc = sum over taps and channels of x * w;
with epilogue float32 [4, out] -> float32: y = fma(fl(fl(acc + offset) * scale), alpha, beta).
A 1-d convolution is this with height 1. Errors: TypeError / ValueError for wrong dtypes, shapes or geometry.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_epilogue, check_same_device, check_words
from bittern.ops._op import Op, lazily
from bittern.ops.binary_conv2d.arguments import Conv2dArguments
from bittern.ops.binary_conv2d.cpu import PreparedConv2d, binary_conv2d_cpu
from bittern.ops.binary_conv2d.reference import binary_conv2d_reference

__all__ = ["PreparedConv2d", "binary_conv2d", "check_conv2d"]


def check_conv2d(op: str, a: Conv2dArguments) -> None:
    """What every binary convolution asks of its arguments. Raises: TypeError, ValueError."""
    x, w, channels, groups = a.x, a.w, a.channels, a.groups
    if groups < 1 or channels < 1 or channels % groups:
        raise ValueError(f"{op}: groups must divide channels; got channels={channels}, groups={groups}")
    check_words(op, "x", x, channels)
    check_words(op, "w", w, channels // groups)
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"{op}: x must be [batch, height, width, words] and w [out, kernel_h, kernel_w, words]; "
            f"got {list(x.shape)} and {list(w.shape)}"
        )
    if w.shape[0] % groups:
        raise ValueError(f"{op}: groups must divide the output channels; got {w.shape[0]} and groups={groups}")
    if w.shape[1] * w.shape[2] * (channels // groups) > 2**24 or 0 in w.shape[1:3]:
        raise ValueError(f"{op}: kernel taps times channels must lie in [1, 2^24]; got w {list(w.shape)}")
    for name, pair, least in (("stride", a.stride, 1), ("padding", a.padding, 0), ("dilation", a.dilation, 1)):
        if len(pair) != 2 or min(pair) < least:
            raise ValueError(f"{op}: {name} must be two integers of at least {least}; got {list(pair)}")
    if a.pad_value not in (-1, 0, 1):
        raise ValueError(f"{op}: pad_value must be -1, 0 or +1; got {a.pad_value}")
    check_dtype(op, "w", w, (torch.int64,))
    check_same_device(op, x=x, w=w, epilogue=a.epilogue)
    check_epilogue(op, a.epilogue, w.shape[0])
    _ = a.output_size


def _fake(a: Conv2dArguments) -> Tensor:
    dtype = torch.int32 if a.epilogue is None else torch.float32
    return a.x.new_empty((a.x.shape[0], *a.output_size, a.w.shape[0]), dtype=dtype)


binary_conv2d: Op[Tensor] = Op(
    "binary_conv2d(Tensor x, Tensor w, int channels, int[] stride, int[] padding, int[] dilation, "
    "int groups=1, int pad_value=0, Tensor? epilogue=None) -> Tensor",
    record=Conv2dArguments,
    check=partial(check_conv2d, "binary_conv2d"),
    reference=binary_conv2d_reference,
    fake=_fake,
    cpu=binary_conv2d_cpu,
    cuda=lazily("bittern.ops.binary_conv2d.cuda", "binary_conv2d_cuda"),
)
