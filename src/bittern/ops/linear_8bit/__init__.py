# SPDX-License-Identifier: Apache-2.0
"""linear_8bit(x, weight, scale, bias=None, threshold=0.0): a linear layer by LLM.int8().

x: [..., k] float32, bfloat16 or float16. weight: int8 [n, k], codes -127 .. 127; scale: float32 [n], the absmax of each
row, so that W = weight * scale / 127. bias: [n] of x's dtype. -> [..., n] of x's dtype.
threshold > 0: a column of x with any |x| >= threshold is an outlier: it is multiplied with W in float32 and counts as 0
below. Per row of x: absmax = max |x|, code = round(x * (127 / absmax)), half to even, and
y = int32(codes . weight) * (absmax / 127) * (scale / 127) [+ outliers] [+ bias], each operation in float32, where / 127
is the product with the float32 nearest to 1 / 127; rounded once to x's dtype. A row with a number that is not finite
gives NaN; one whose absmax is below 2^-126 counts as 0.
The result is the same bit for bit on every CPU; with outliers up to the order of their sum.
Derivatives, of any order and in forward mode too: of x, as if it were not quantized, and of bias; W is frozen.
Errors: TypeError for another dtype; ValueError for sizes that do not fit, or more columns than int32 sums can hold;
NotImplementedError for a derivative of W.
Reference: LLM.int8() (arXiv:2208.07339). The authors' code lets those elements of outlier columns that are below the
threshold count for absmax; here, as in the paper, an outlier column is left out as a whole.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.linear_8bit.arguments import Linear8bitArguments
from bittern.ops.linear_8bit.cpu import linear_8bit_cpu
from bittern.ops.linear_8bit.derivatives import make_function
from bittern.ops.linear_8bit.reference import LEVELS, linear_8bit_reference
from bittern.ops.quantize_blockwise.check import FLOATS

__all__ = ["linear_8bit"]

MOST_COLUMNS = (2**31 - 1) // int(LEVELS) ** 2
"""More products of two codes than this could overflow an int32 sum."""


def _check(a: Linear8bitArguments) -> None:
    x, weight, scale, bias, threshold = a
    check_dtype("linear_8bit", "x", x, FLOATS)
    check_dtype("linear_8bit", "weight", weight, (torch.int8,))
    check_dtype("linear_8bit", "scale", scale, (torch.float32,))
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear_8bit: x [..., k] and weight [n, k] must have one k; got x {list(x.shape)}, weight "
            f"{list(weight.shape)}; bring x to that many features"
        )
    if weight.shape[1] > MOST_COLUMNS:
        raise ValueError(f"linear_8bit: at most {MOST_COLUMNS} columns fit int32 sums; got {weight.shape[1]}; split x")
    if tuple(scale.shape) != (weight.shape[0],):
        raise ValueError(
            f"linear_8bit: scale must be [{weight.shape[0]}], one absmax per row; got {list(scale.shape)}; flatten it"
        )
    if bias is not None and (bias.dtype != x.dtype or bias.shape != scale.shape):
        raise ValueError(
            f"linear_8bit: bias must be {x.dtype} {list(scale.shape)}; got {bias.dtype} {list(bias.shape)}; cast it"
        )
    if not threshold >= 0:
        raise ValueError(f"linear_8bit: threshold must be 0 (off) or positive; got {threshold}; 6 is the paper's")
    check_same_device("linear_8bit", x=x, weight=weight, scale=scale, bias=bias)


def _fake(a: Linear8bitArguments) -> Tensor:
    return a.x.new_empty((*a.x.shape[:-1], a.weight.shape[0]))


linear_8bit: Op[Tensor] = Op(
    "linear_8bit(Tensor x, Tensor weight, Tensor scale, Tensor? bias=None, float threshold=0.0) -> Tensor",
    record=Linear8bitArguments,
    check=_check,
    reference=linear_8bit_reference,
    fake=_fake,
    cpu=linear_8bit_cpu,
    cuda=lazily("bittern.ops.linear_8bit.cuda", "linear_8bit_cuda"),
)

linear_8bit.differentiate(make_function(linear_8bit))
