# SPDX-License-Identifier: Apache-2.0
"""Operands on which a fused multiply-add, a product then a sum, and a float64 sum rounded again give three answers."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from bittern import ops

_BITS = 24  # of a float32 significand
_LEAST_EXPONENT = -149  # of the last bit of a subnormal


def nearest_float32(x: Fraction) -> float:
    """x rounded once to float32, ties to even, by exact rational arithmetic."""
    if x == 0:
        return 0.0
    magnitude = abs(x)
    guess = magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - _BITS - 1  # at most 2 too small
    exponent = max(_LEAST_EXPONENT, guess)
    while magnitude / Fraction(2) ** exponent >= 2**_BITS:
        exponent += 1
    quantum = Fraction(2) ** exponent
    return float(round(x / quantum) * quantum)  # a Fraction rounds half to even


def exact_multiply_add(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """x * alpha + beta of finite float32 tensors [n], rounded once."""
    triples = zip(x.tolist(), alpha.tolist(), beta.tolist(), strict=True)
    return torch.tensor([nearest_float32(Fraction(p) * Fraction(q) + Fraction(r)) for p, q, r in triples])


def traps(count: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """x, alpha, beta, float32 [n].

    Half of them: odd integers whose product has 25 bits, the last one set. It lies in the middle between two float32;
    a tiny beta decides, and a float64 sum loses it. The other half: beta nearly cancels the product, so that rounding
    the product first loses everything.
    """
    draw = random.Random(0)
    rows = []
    while len(rows) < count:
        p, q = (draw.randrange(2**11 + 1, 2**13, 2) for _ in range(2))
        if not 2**_BITS < p * q < 2 ** (_BITS + 1):
            continue
        scale = 2.0 ** draw.randrange(-30, 30)
        sign = draw.choice((-1, 1))
        rows.append((p * scale, q, draw.choice((-1, 1)) * scale * 2.0**-40))
        rows.append((sign * p * scale, q, -sign * (p * q - 1) * scale))
    x, alpha, beta = torch.tensor(rows, dtype=torch.float64).float().unbind(1)
    return x, alpha, beta


def matmul_arguments(x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Any, ...]:
    """Arguments of binary_matmul for which y = fma(x, alpha, beta): k = 1, acc = +1, scale = x."""
    a = ops.pack_signs.reference(torch.ones(1, 1))
    b = ops.pack_signs.reference(torch.ones(len(x), 1))
    return a, b, 1, torch.stack([torch.zeros_like(x), x, alpha, beta])


def conv_arguments(x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Any, ...]:
    """The same for binary_conv2d."""
    a, b, _, rows = matmul_arguments(x, alpha, beta)
    return a.view(1, 1, 1, 1), b.view(-1, 1, 1, 1), 1, [1, 1], [0, 0], [1, 1], 1, 0, rows
