# SPDX-License-Identifier: Apache-2.0
"""multibit_quantize(x, planes, cycles=2, refined=False): each row of x as a sum of scaled signs, by alternating steps.

x: float32, bfloat16 or float16 [..., n] with 1 <= n <= 2^24; 1 <= planes <= 8; cycles >= 0
-> words int64 [planes, ..., ceil(n / 64)], packed signs B_i with surplus bits 0, and scale float32 [..., planes], a_i,
so that a row is about the sum of a_i B_i.

Start, plane by plane, R_0 = x: B_i = sign(R_i), and
    greedy    a_i = mean |R_i|, by `mean_magnitude`; R_(i+1) = R_i - a_i, or R_i + a_i where B_i = -1
    refined   a_0 ... a_i by least squares; R_(i+1) = x - (+-a_0 +- ... +- a_i)
Then `cycles` times
    1. scale: least squares with these planes, their magnitudes, the largest first
    2. planes: of the 2^planes sums +-a_0 +- a_1 ... the one nearest to x, by the midpoints of neighbours; an x on a
       midpoint takes the larger one, so that with one plane B = sign(x)
With cycles > 0 scales are not negative and do not ascend; cycles = 0 leaves the start as it is.

Order of operations, which every implementation repeats to the bit:
    sums of +-x_c are float32, those of `mean_magnitude`: c modulo 16, then halves
    least squares: G = B'B, integers, and t = B'x in float64, G = L D L' with U_ij = G_ij - sum_m U_im L_jm and
        L_ij = U_ij / U_jj, then forward and back, each operation rounded and sums in ascending order of m; then
        float32. A plane that others before it make up (its pivot is 0; another is at least (4 / 8)^7) gets scale 0
    sums of scales in float32 from plane 0 on; equal ones in the order of their signs, plane 0 first and - before +;
        a midpoint is 0.5 u + 0.5 v
A row with NaN or infinity, or whose scales or their sum are not finite in float32, has scales NaN and bits 0.
float16 and bfloat16 are widened first.
Errors: TypeError for another dtype; ValueError for rows of no or too many numbers, planes outside 1 ... 8, cycles < 0.
Not differentiable.
Source: Xu et al., "Alternating Multi-bit Quantization for Recurrent Neural Networks", arXiv:1802.00150. The paper has
the cycle and the midpoints; the order of operations and what equal planes get are this library's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import words_for
from bittern.ops._op import Op, lazily
from bittern.ops.multibit_quantize.arguments import MultibitQuantizeArguments
from bittern.ops.multibit_quantize.check import MOST_MULTIBIT_PLANES, check
from bittern.ops.multibit_quantize.cpu import multibit_quantize_cpu
from bittern.ops.multibit_quantize.reference import multibit_quantize_reference

__all__ = ["MOST_MULTIBIT_PLANES", "multibit_quantize"]


def _fake(a: MultibitQuantizeArguments) -> tuple[Tensor, Tensor]:
    *rows, n = a.x.shape
    return (
        a.x.new_empty((a.planes, *rows, words_for(n)), dtype=torch.int64),
        a.x.new_empty((*rows, a.planes), dtype=torch.float32),
    )


multibit_quantize: Op[tuple[Tensor, Tensor]] = Op(
    "multibit_quantize(Tensor x, int planes, int cycles=2, bool refined=False) -> (Tensor, Tensor)",
    record=MultibitQuantizeArguments,
    check=check,
    reference=multibit_quantize_reference,
    fake=_fake,
    cpu=multibit_quantize_cpu,
    cuda=lazily("bittern.ops.multibit_quantize.reference", "multibit_quantize_reference"),
)
