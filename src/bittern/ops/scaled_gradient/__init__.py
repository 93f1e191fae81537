# SPDX-License-Identifier: Apache-2.0
"""scaled_gradient(grad, y, factor): both gradients of y * factor, where all rows of y share the factor, in one pass.

grad, y: [rows, n]; factor: [n]; float32, float64, float16 or bfloat16, one dtype -> (to y, to factor) of their shapes.
    to y = grad * factor; to factor_j = sum over the rows of grad_ij * y_ij
On the CPU native code serves float32: fused products, row after row, so the same bits on every instruction set and with
any number of threads. Other dtypes are torch's own operations, one after another.
`scale_whole` and `scaled_gradient_of_whole` are the product and its gradients where y is whole numbers, which then
take 16 bits.
Errors: TypeError for another dtype; ValueError for shapes that do not fit.
Not differentiable: `bittern.binary.XNORNetPlusPlus` uses it.
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.scaled_gradient.cpu import scaled_gradient_cpu
from bittern.ops.scaled_gradient.reference import scaled_gradient_reference
from bittern.ops.scaled_gradient.whole import lowered, scale_whole, scaled_gradient_of_whole

__all__ = ["lowered", "scale_whole", "scaled_gradient", "scaled_gradient_of_whole"]


def _check(grad: Tensor, y: Tensor, factor: Tensor) -> None:
    check_dtype("scaled_gradient", "grad", grad, FLOATS)
    fits = grad.ndim == 2 and grad.shape == y.shape and factor.shape == y.shape[1:]
    if not fits or not grad.dtype == y.dtype == factor.dtype:
        raise ValueError(
            "scaled_gradient: grad and y must be [rows, n] and factor [n], of one dtype; "
            f"got {list(grad.shape)} {grad.dtype}, {list(y.shape)} {y.dtype}, {list(factor.shape)} {factor.dtype}; "
            "flatten what the rows share"
        )
    check_same_device("scaled_gradient", grad=grad, y=y, factor=factor)


def _fake(grad: Tensor, y: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    return grad.new_empty(grad.shape), grad.new_empty(factor.shape)


scaled_gradient: Op[tuple[Tensor, Tensor]] = Op(
    "scaled_gradient(Tensor grad, Tensor y, Tensor factor) -> (Tensor, Tensor)",
    check=_check,
    reference=scaled_gradient_reference,
    fake=_fake,
    cpu=scaled_gradient_cpu,
    cuda=lazily("bittern.ops.scaled_gradient.cuda", "scaled_gradient_cuda"),
)
