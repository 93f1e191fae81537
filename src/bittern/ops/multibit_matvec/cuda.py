# SPDX-License-Identifier: Apache-2.0
"""`multibit_matvec` on CUDA: all planes in one binary product by Triton, then torch's operations in their order."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.binary_matmul.cuda import binary_matmul_cuda
from bittern.ops.multibit_matvec.arguments import MultibitMatvecArguments
from bittern.ops.multibit_matvec.reference import summed


def multibit_matvec_cuda(a: MultibitMatvecArguments) -> Tensor:
    planes, rows, _ = a.w.shape
    acc = binary_matmul_cuda(a.x, a.w.flatten(0, 1), a.in_features).float()
    of_planes = acc.view(*acc.shape[:-1], planes, rows).unbind(0)
    return summed([list(of_x.unbind(-2)) for of_x in of_planes], a)
