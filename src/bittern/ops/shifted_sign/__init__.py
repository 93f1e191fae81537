# SPDX-License-Identifier: Apache-2.0
"""A sign with a threshold per channel, and its gradients by ApproxSign, in one pass each; x + shift is not kept.

shifted_sign(x, shift) -> sign(t), t = x + shift_c rounded; sign(0) = +1, NaN counts as -1
shifted_sign_gradient(grad, x, shift) -> (to x, to shift)
    to x = grad * max(0, 2 - 2|t|), each operation rounded; to shift_c = the sum of that over the channel
x, grad: [outer, channels, inner]; shift: [channels]; float32, float64, float16 or bfloat16, one dtype. Results have the
shapes of what they stand for; NaN where t is NaN, but for the sign.
On the CPU native code serves float32: the bits of the formula, and sums within their rounding, the same bits with any
number of threads and on every instruction set. Other dtypes are torch's own operations, one after another.
Errors: TypeError for another dtype; ValueError for shapes that do not fit.
Not differentiable: `bittern.estimators.shifted_sign` uses them.
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.shifted_sign.cpu import shifted_sign_cpu, shifted_sign_gradient_cpu
from bittern.ops.shifted_sign.reference import shifted_sign_gradient_reference, shifted_sign_reference

__all__ = ["shifted_sign", "shifted_sign_gradient"]


def _check_sign(x: Tensor, shift: Tensor) -> None:
    _check("shifted_sign", x, shift)


def _check_gradient(grad: Tensor, x: Tensor, shift: Tensor) -> None:
    _check("shifted_sign_gradient", x, shift)
    if grad.shape != x.shape or grad.dtype != x.dtype:
        raise ValueError(
            f"shifted_sign_gradient: grad must be like x; got {list(grad.shape)} {grad.dtype} and {list(x.shape)} "
            f"{x.dtype}; cast or expand one of them"
        )
    check_same_device("shifted_sign_gradient", grad=grad, x=x)


def _check(op: str, x: Tensor, shift: Tensor) -> None:
    check_dtype(op, "x", x, FLOATS)
    if x.ndim != 3 or shift.shape != x.shape[1:2] or shift.dtype != x.dtype:
        raise ValueError(
            f"{op}: x must be [outer, channels, inner] and shift [channels], of one dtype; "
            f"got {list(x.shape)} {x.dtype} and {list(shift.shape)} {shift.dtype}; view x so"
        )
    check_same_device(op, x=x, shift=shift)


shifted_sign: Op[Tensor] = Op(
    "shifted_sign(Tensor x, Tensor shift) -> Tensor",
    check=_check_sign,
    reference=shifted_sign_reference,
    fake=lambda x, shift: x.new_empty(x.shape),
    cpu=shifted_sign_cpu,
    cuda=lazily("bittern.ops.shifted_sign.cuda", "shifted_sign_cuda"),
)

shifted_sign_gradient: Op[tuple[Tensor, Tensor]] = Op(
    "shifted_sign_gradient(Tensor grad, Tensor x, Tensor shift) -> (Tensor, Tensor)",
    check=_check_gradient,
    reference=shifted_sign_gradient_reference,
    fake=lambda grad, x, shift: (x.new_empty(x.shape), shift.new_empty(shift.shape)),
    cpu=shifted_sign_gradient_cpu,
    cuda=lazily("bittern.ops.shifted_sign.cuda", "shifted_sign_gradient_cuda"),
)
