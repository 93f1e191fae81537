# SPDX-License-Identifier: Apache-2.0
"""`binary_block` on CUDA: the Triton convolution and packing, with torch's elementwise kernels between them."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.binary_block.layout import Activation
from bittern.ops.binary_block.reference import arranged, finished, parted
from bittern.ops.binary_conv2d.cuda import binary_conv2d_cuda
from bittern.ops.pack_signs.cuda import pack_signs_cuda


def binary_block_cuda(
    x: Tensor,
    w: Tensor,
    channels: int,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    pad_value: int,
    epilogue: Tensor,
    activation: int = 0,
    parameters: Tensor | None = None,
    threshold: Tensor | None = None,
    residual: Tensor | None = None,
    residual_pool: int = 1,
    residual_shift: int = 0,
    residual_repeats: bool = False,
    residual_last: bool = False,
    residual_affine: Tensor | None = None,
    factor: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    first, rest = parted(epilogue, factor)
    y = rest(binary_conv2d_cuda(x, w, channels, stride, padding, dilation, groups, pad_value, first))
    addend = arranged(residual, residual_pool, residual_shift, residual_repeats, residual_affine, w.shape[0])
    return finished(y, Activation(activation), parameters, threshold, addend, residual_last, pack_signs_cuda)
