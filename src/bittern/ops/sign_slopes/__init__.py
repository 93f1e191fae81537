# SPDX-License-Identifier: Apache-2.0
"""Gradients of a sign by estimators whose slope bends, recomputed from x in one pass; and the sign with a noise.

approx_sign_gradient(grad, x) -> grad * max(0, 2 - 2|x|)
error_decay_gradient(grad, x, t, k) -> grad * k t (1 - tanh(t x)^2); t, k: 0-dim
fourier_gradient(grad, x, terms, omega, limit=None, rising=False, wave=None) -> grad * slope
    slope = (4 omega / pi) * sum_{i = 0 ... terms - 1} cos((2i + 1) omega x), 0 where |x| > limit or x is not finite,
    with `rising` also where it is negative; + wave * cos(x). terms: 0-dim int64; wave: 0-dim, or None for 0
noisy_sign(x, noise, wave) -> sign(x) + (noise + wave * sin(x)), each operation rounded; wave: 0-dim
grad, x, noise: the same shape, float32, float64, float16 or bfloat16 -> the same shape and dtype. A slope is NaN where
x is, but for Fourier's sum, which is 0 there.
approx_sign_gradient has the bits of its formula. On the CPU native code serves float32; there error_decay_gradient is
within 6 and fourier_gradient within 8 (terms < 32, omega |x| <= 8192) roundings of the largest slope, noisy_sign's sine
within 2, all with the same bits on every instruction set. Other dtypes are torch's own operations, one after another.
Errors: TypeError for another dtype; ValueError for another shape.
Not differentiable: `bittern.estimators` uses them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.sign_slopes.arguments import FourierArguments
from bittern.ops.sign_slopes.cpu import (
    approx_sign_gradient_cpu,
    error_decay_gradient_cpu,
    fourier_gradient_cpu,
    noisy_sign_cpu,
)
from bittern.ops.sign_slopes.reference import (
    approx_sign_gradient_reference,
    error_decay_gradient_reference,
    fourier_gradient_reference,
    noisy_sign_reference,
)

__all__ = ["approx_sign_gradient", "error_decay_gradient", "fourier_gradient", "noisy_sign"]


def _check_pair(op: str, names: tuple[str, str], a: Tensor, b: Tensor) -> None:
    check_dtype(op, names[0], a, FLOATS)
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ValueError(
            f"{op}: {names[0]} and {names[1]} must have one shape and dtype; got {list(a.shape)} {a.dtype} and "
            f"{list(b.shape)} {b.dtype}; cast or expand one of them"
        )
    check_same_device(op, **{names[0]: a, names[1]: b})


def _check_scalars(op: str, **scalars: Tensor) -> None:
    for name, value in scalars.items():
        if value.ndim != 0:
            raise ValueError(f"{op}: {name} must be one number; got {list(value.shape)}; pass a 0-dim tensor")


def _check_approx(grad: Tensor, x: Tensor) -> None:
    _check_pair("approx_sign_gradient", ("grad", "x"), grad, x)


def _check_decay(grad: Tensor, x: Tensor, t: Tensor, k: Tensor) -> None:
    _check_pair("error_decay_gradient", ("grad", "x"), grad, x)
    _check_scalars("error_decay_gradient", t=t, k=k)


def _check_fourier(a: FourierArguments) -> None:
    _check_pair("fourier_gradient", ("grad", "x"), a.grad, a.x)
    _check_scalars("fourier_gradient", terms=a.terms, **({} if a.wave is None else {"wave": a.wave}))
    check_dtype("fourier_gradient", "terms", a.terms, (torch.int64,))
    if not 0.0 < a.omega <= math.pi:
        raise ValueError(f"fourier_gradient: omega must lie in (0, pi]; got {a.omega}")


def _check_noisy(x: Tensor, noise: Tensor, wave: Tensor) -> None:
    _check_pair("noisy_sign", ("x", "noise"), x, noise)
    _check_scalars("noisy_sign", wave=wave)


def _like(x: Tensor, *_: object) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


approx_sign_gradient: Op[Tensor] = Op(
    "approx_sign_gradient(Tensor grad, Tensor x) -> Tensor",
    check=_check_approx,
    reference=approx_sign_gradient_reference,
    fake=_like,
    cpu=approx_sign_gradient_cpu,
    cuda=lazily("bittern.ops.sign_slopes.cuda", "approx_sign_gradient_cuda"),
)

error_decay_gradient: Op[Tensor] = Op(
    "error_decay_gradient(Tensor grad, Tensor x, Tensor t, Tensor k) -> Tensor",
    check=_check_decay,
    reference=error_decay_gradient_reference,
    fake=_like,
    cpu=error_decay_gradient_cpu,
    cuda=lazily("bittern.ops.sign_slopes.cuda", "error_decay_gradient_cuda"),
)

fourier_gradient: Op[Tensor] = Op(
    "fourier_gradient(Tensor grad, Tensor x, Tensor terms, float omega, float? limit=None, bool rising=False, "
    "Tensor? wave=None) -> Tensor",
    record=FourierArguments,
    check=_check_fourier,
    reference=fourier_gradient_reference,
    fake=lambda a: _like(a.grad),
    cpu=fourier_gradient_cpu,
    cuda=lazily("bittern.ops.sign_slopes.cuda", "fourier_gradient_cuda"),
)

noisy_sign: Op[Tensor] = Op(
    "noisy_sign(Tensor x, Tensor noise, Tensor wave) -> Tensor",
    check=_check_noisy,
    reference=noisy_sign_reference,
    fake=_like,
    cpu=noisy_sign_cpu,
    cuda=lazily("bittern.ops.sign_slopes.cuda", "noisy_sign_cuda"),
)
