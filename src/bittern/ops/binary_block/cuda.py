# SPDX-License-Identifier: Apache-2.0
"""`binary_block` on CUDA: the Triton convolution and packing, with torch's elementwise kernels between them."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.binary_block.arguments import BlockArguments
from bittern.ops.binary_block.reference import factors_of, finished, parted
from bittern.ops.binary_conv2d.cuda import binary_conv2d_cuda
from bittern.ops.pack_signs.cuda import pack_signs_cuda


def binary_block_cuda(a: BlockArguments) -> tuple[Tensor, Tensor]:
    first, rest = parted(a.epilogue, factors_of(a))
    y = rest(binary_conv2d_cuda(a.conv2d._replace(epilogue=first)))
    return finished(a, y, pack_signs_cuda)
