# SPDX-License-Identifier: Apache-2.0
"""`binary_conv2d` on the CPU, by native code, and its weights prepared for repeated use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import words_for
from bittern.ops._isa import Isa, chosen_isa, threads
from bittern.ops.binary_conv2d.arguments import Conv2dArguments
from bittern.ops.binary_conv2d.geometry import output_size


class PreparedConv2d:
    """`binary_conv2d` with fixed weights, laid out once in the order in which this CPU's kernel reads them.

    w: int64 [out, kernel_h, kernel_w, ceil(channels / groups / 64)]. Call with packed x [batch, height, width,
    ceil(channels / 64)] -> [batch, out_h, out_w, out], int32, or float32 if there is an epilogue.
    """

    def __init__(
        self,
        w: Tensor,
        channels: int,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int = 1,
        pad_value: int = 0,
        epilogue: Tensor | None = None,
        isa: Isa | None = None,
    ) -> None:
        self.isa = chosen_isa() if isa is None else isa
        self.out_channels, self.kernel_h, self.kernel_w = w.shape[:3]
        self.channels, self.groups, self.pad_value = channels, groups, pad_value
        self.stride, self.padding, self.dilation = tuple(stride), tuple(padding), tuple(dilation)
        self.epilogue = None if epilogue is None else epilogue.contiguous()
        w = w.contiguous()
        taps = self.kernel_h * self.kernel_w
        size = _native.prepared_bytes(self.isa, self.out_channels, taps, channels, groups)
        self.weights = torch.empty(size, dtype=torch.uint8)
        _native.prepare_weights(
            self.isa, w.data_ptr(), self.out_channels, taps, channels, groups, self.weights.data_ptr()
        )

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        batch, height, width, words = x.shape
        if words != words_for(self.channels):
            raise ValueError(f"binary_conv2d: x must have {words_for(self.channels)} words a pixel; got {words}")
        size = output_size(height, width, self.kernel_h, self.kernel_w, self.stride, self.padding, self.dilation)
        dtype = torch.int32 if self.epilogue is None else torch.float32
        out = torch.empty((batch, *size, self.out_channels), dtype=dtype, device="cpu")
        _native.binary_conv2d(
            self.isa,
            threads(),
            x.data_ptr(),
            batch,
            height,
            width,
            self.channels,
            self.weights.data_ptr(),
            self.out_channels,
            self.kernel_h,
            self.kernel_w,
            self.stride[0],
            self.stride[1],
            self.padding[0],
            self.padding[1],
            self.dilation[0],
            self.dilation[1],
            self.groups,
            self.pad_value,
            0 if self.epilogue is None else self.epilogue.data_ptr(),
            out.data_ptr(),
        )
        return out


def binary_conv2d_cpu(isa: Isa, a: Conv2dArguments) -> Tensor:
    return PreparedConv2d(*a[1:], isa)(a.x)
