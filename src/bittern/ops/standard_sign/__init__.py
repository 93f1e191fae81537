# SPDX-License-Identifier: Apache-2.0
"""The sign of x, and its gradient by ApproxSign at x divided by the standard deviation of its sample.

standard_sign(x, epsilon) -> (values, statistics)
    values = +1 where x >= 0, else -1; statistics [samples, 2]: of each sample the mean and inv =
    1 / sqrt(var + epsilon), with the unbiased variance
standard_sign_gradient(grad, x, statistics) -> with y = x * inv and d = grad * max(0, 2 - 2|y|), both differentiated:
    d * inv - (x - mean) * sum(d x) * inv^3 / (n - 1), the sum over the n numbers of the sample
x, grad: [samples, ...] with at least 2 numbers a sample, float32, float64, float16 or bfloat16 -> values and gradient
of the same shape and dtype. The order of a sample's numbers is nobody's concern but that of the sums.
On the CPU native code serves float32, with the same bits on every instruction set: sums in 64 lanes of float32 over
4096 numbers, then in double. Other dtypes are torch's own operations, one after another; 16-bit statistics are 16-bit.
Errors: TypeError for another dtype; ValueError for samples of fewer than 2 numbers, or shapes that do not fit.
Not differentiable: `bittern.binary.ReCU` uses them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.standard_sign.cpu import standard_sign_cpu, standard_sign_gradient_cpu
from bittern.ops.standard_sign.reference import standard_sign_gradient_reference, standard_sign_reference

__all__ = ["standard_sign", "standard_sign_gradient"]


def _check(x: Tensor, epsilon: float) -> None:
    check_dtype("standard_sign", "x", x, FLOATS)
    if x.ndim == 0 or x.shape[1:].numel() < 2:
        raise ValueError(
            f"standard_sign: x must be [samples, ...] with at least 2 numbers a sample; got {list(x.shape)}"
        )
    if not epsilon >= 0.0:
        raise ValueError(f"standard_sign: epsilon must be at least 0; got {epsilon}")


def _check_gradient(grad: Tensor, x: Tensor, statistics: Tensor) -> None:
    check_dtype("standard_sign_gradient", "grad", grad, FLOATS)
    fits = grad.shape == x.shape and x.ndim > 0 and tuple(statistics.shape) == (x.shape[0], 2)
    if not fits or not grad.dtype == x.dtype == statistics.dtype:
        raise ValueError(
            "standard_sign_gradient: grad and x must have one shape [samples, ...], statistics [samples, 2], all one "
            f"dtype; got {list(grad.shape)} {grad.dtype}, {list(x.shape)} {x.dtype}, {list(statistics.shape)} "
            f"{statistics.dtype}; pass the statistics of the same x"
        )
    check_same_device("standard_sign_gradient", grad=grad, x=x, statistics=statistics)


def _fake(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty((x.shape[0], 2))


standard_sign: Op[tuple[Tensor, Tensor]] = Op(
    "standard_sign(Tensor x, float epsilon) -> (Tensor, Tensor)",
    check=_check,
    reference=standard_sign_reference,
    fake=_fake,
    cpu=standard_sign_cpu,
    cuda=lazily("bittern.ops.standard_sign.cuda", "standard_sign_cuda"),
)

standard_sign_gradient: Op[Tensor] = Op(
    "standard_sign_gradient(Tensor grad, Tensor x, Tensor statistics) -> Tensor",
    check=_check_gradient,
    reference=standard_sign_gradient_reference,
    fake=lambda grad, x, statistics: torch.empty_like(grad, memory_format=torch.contiguous_format),
    cpu=standard_sign_gradient_cpu,
    cuda=lazily("bittern.ops.standard_sign.cuda", "standard_sign_gradient_cuda"),
)
