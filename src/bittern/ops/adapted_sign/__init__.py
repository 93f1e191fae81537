# SPDX-License-Identifier: Apache-2.0
"""A sign with a noise that a small network learns from each row, and its gradients, in one pass each.

adapted_sign(x, down, up, alpha, amplitude) -> sign(x) + alpha * (relu(x down^T) up^T + amplitude * sin(x))
adapted_sign_gradient(grad, x, down, up, alpha, amplitude, terms, omega, limit=None, rising=False)
    -> (to x, to down, to up), where the sign's derivative is the series of `fourier_gradient` with the arguments from
    `terms` on, and nothing flows to alpha
x, grad: [rows, columns]; down: [hidden, columns]; up: [columns, hidden], 1 <= hidden <= 16; float32, float64, float16
or bfloat16, one dtype; alpha: 0-dim. Results have the shapes of what they stand for. relu(NaN) is NaN, and its
derivative 1 there, as torch has them.
Nothing as large as x is kept between them: the gradients work the hidden numbers out again.
On the CPU native code serves float32: each sum within its rounding, the same bits with any number of threads, but in
the order of the instruction set's lanes. Other dtypes are torch's own operations, one after another.
Errors: TypeError for another dtype; ValueError for shapes that do not fit, and an omega outside (0, pi].
Not differentiable: `bittern.binary.FDA` uses them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.adapted_sign.arguments import AdaptedArguments, AdaptedGradientArguments
from bittern.ops.adapted_sign.cpu import adapted_sign_cpu, adapted_sign_gradient_cpu
from bittern.ops.adapted_sign.reference import adapted_sign_gradient_reference, adapted_sign_reference

__all__ = ["MOST_HIDDEN", "adapted_sign", "adapted_sign_gradient"]

MOST_HIDDEN = 16
"""Hidden numbers that the kernels have room for. torch multiplies wider matrices faster: with 18 it did so here."""


def _check(op: str, a: AdaptedArguments | AdaptedGradientArguments) -> None:
    check_dtype(op, "x", a.x, FLOATS)
    fits = a.x.ndim == a.down.ndim == a.up.ndim == 2 and a.down.shape[1] == a.x.shape[1]
    fits = fits and a.up.shape == (a.down.shape[1], a.down.shape[0]) and 1 <= len(a.down) <= MOST_HIDDEN
    if not fits or not a.x.dtype == a.down.dtype == a.up.dtype:
        raise ValueError(
            f"{op}: x must be [rows, columns], down [hidden, columns] and up [columns, hidden], hidden from 1 to "
            f"{MOST_HIDDEN}, of one dtype; got {list(a.x.shape)} {a.x.dtype}, {list(a.down.shape)} {a.down.dtype}, "
            f"{list(a.up.shape)} {a.up.dtype}; flatten x, or multiply by torch"
        )
    if a.alpha.ndim != 0:
        raise ValueError(f"{op}: alpha must be one number; got {list(a.alpha.shape)}; pass a 0-dim tensor")
    check_same_device(op, x=a.x, down=a.down, up=a.up)


def _check_sign(a: AdaptedArguments) -> None:
    _check("adapted_sign", a)


def _check_gradient(a: AdaptedGradientArguments) -> None:
    op = "adapted_sign_gradient"
    _check(op, a)
    if a.grad.shape != a.x.shape or a.grad.dtype != a.x.dtype:
        raise ValueError(
            f"{op}: grad must be like x; got {list(a.grad.shape)} {a.grad.dtype} and {list(a.x.shape)} {a.x.dtype}; "
            "cast or expand one of them"
        )
    if a.terms.ndim != 0:
        raise ValueError(f"{op}: terms must be one number; got {list(a.terms.shape)}; pass a 0-dim tensor")
    check_dtype(op, "terms", a.terms, (torch.int64,))
    if not 0.0 < a.omega <= math.pi:
        raise ValueError(f"{op}: omega must lie in (0, pi]; got {a.omega}")
    check_same_device(op, x=a.x, grad=a.grad)


adapted_sign: Op[Tensor] = Op(
    "adapted_sign(Tensor x, Tensor down, Tensor up, Tensor alpha, float amplitude) -> Tensor",
    record=AdaptedArguments,
    check=_check_sign,
    reference=adapted_sign_reference,
    fake=lambda a: a.x.new_empty(a.x.shape),
    cpu=adapted_sign_cpu,
    cuda=lazily("bittern.ops.adapted_sign.cuda", "adapted_sign_cuda"),
)

adapted_sign_gradient: Op[tuple[Tensor, Tensor, Tensor]] = Op(
    "adapted_sign_gradient(Tensor grad, Tensor x, Tensor down, Tensor up, Tensor alpha, float amplitude, Tensor terms, "
    "float omega, float? limit=None, bool rising=False) -> (Tensor, Tensor, Tensor)",
    record=AdaptedGradientArguments,
    check=_check_gradient,
    reference=adapted_sign_gradient_reference,
    fake=lambda a: tuple(t.new_empty(t.shape) for t in (a.x, a.down, a.up)),
    cpu=adapted_sign_gradient_cpu,
    cuda=lazily("bittern.ops.adapted_sign.cuda", "adapted_sign_gradient_cuda"),
)
