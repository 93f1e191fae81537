# SPDX-License-Identifier: Apache-2.0
"""linear_groups(x, codes, scale, zero, group, out_features, bias=None, int8=False): a linear layer of integer weights.

x: [..., in_features] float32, bfloat16 or float16. codes: int32 [tiles of rows, tiles of columns, bits, 16], numbers
0 ... 2^bits - 1 of 2, 3, 4 or 8 bits, as `layout` lays them out. scale: float32 or float16, zero: uint8 or float32,
both [tiles of rows, groups, 16], one for each `group` neighbouring inputs (32, 64, 128, or 0 for all) of a row. zero
None stands for 2^(bits - 1). bias: [out_features] of x's dtype. -> [..., out_features] of x's dtype.

    y = x W^T + bias,   W[o, i] = scale[o, g] * (code[o, i] - zero[o, g])

int8 False: products and sums are float32, in no fixed order, and W is not rounded to x's dtype; y is rounded once.
int8 True: per row of x, absmax = max |x| and x_i = round(x * (127 / absmax)), half to even. Per group, S = sum of
code * x_i and X = sum of x_i are exact integers; then in float32, group after group,

    y = fma(fma(-zero, X, S), scale, y),   and at the end y * (absmax / 127) + bias,

where S and X are rounded to float32, / 127 is the product with the float32 nearest to 1 / 127, and both fma round once.
The result is the same bit for bit on every CPU. A row with a number that is not finite gives NaN; one whose absmax is
below 2^-126 counts as 0.
Derivatives, of any order and in forward mode too: of x, as if it were not quantized, and of bias; W is frozen.
On CUDA up to 4 inputs are multiplied with the codes as they are decoded; for more, W is decoded into float32 some
thousands of rows at a time and multiplied by torch. int8 True is computed there by torch's operations.
Errors: TypeError for another dtype; ValueError for sizes that do not fit, or, with int8, groups longer than int32 sums
can hold; NotImplementedError for a derivative of W.
References: GPTQ (arXiv:2210.17323), AWQ (arXiv:2306.00978), whose weights have this form.
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.linear_groups.arguments import LinearGroupsArguments
from bittern.ops.linear_groups.check import check_weight
from bittern.ops.linear_groups.cpu import linear_groups_cpu
from bittern.ops.linear_groups.dequantize import dequantize_groups
from bittern.ops.linear_groups.derivatives import make_function
from bittern.ops.linear_groups.reference import linear_groups_reference
from bittern.ops.quantize_blockwise.check import FLOATS

__all__ = ["dequantize_groups", "linear_groups", "most_columns"]


def most_columns(bits: int) -> int:
    """More products of a code with an input in int8 than this could overflow an int32 sum."""
    return (2**31 - 1) // (127 * ((1 << bits) - 1))


def _check(a: LinearGroupsArguments) -> None:
    check_dtype("linear_groups", "x", a.x, FLOATS)
    if a.x.ndim == 0:
        raise ValueError("linear_groups: x must be [..., in_features]; got a scalar; give it a dimension of features")
    columns = a.x.shape[-1]
    check_weight("linear_groups", a.codes, a.scale, a.zero, a.group, a.out_features, columns)
    check_same_device("linear_groups", x=a.x, codes=a.codes, scale=a.scale, zero=a.zero, bias=a.bias)
    if a.bias is not None and (a.bias.dtype != a.x.dtype or tuple(a.bias.shape) != (a.out_features,)):
        raise ValueError(
            f"linear_groups: bias must be {a.x.dtype} [{a.out_features}]; got {a.bias.dtype} {list(a.bias.shape)}; "
            "cast it first"
        )
    most = most_columns(a.codes.shape[2])
    if a.int8 and a.group == 0 and columns > most:
        raise ValueError(
            f"linear_groups: int32 sums hold at most {most} columns of {a.codes.shape[2]} bits in a group; got "
            f"{columns}; take groups of 128"
        )


def _fake(a: LinearGroupsArguments) -> Tensor:
    return a.x.new_empty((*a.x.shape[:-1], a.out_features))


linear_groups: Op[Tensor] = Op(
    "linear_groups(Tensor x, Tensor codes, Tensor scale, Tensor? zero, int group, SymInt out_features,"
    " Tensor? bias=None, bool int8=False) -> Tensor",
    record=LinearGroupsArguments,
    check=_check,
    reference=linear_groups_reference,
    fake=_fake,
    cpu=linear_groups_cpu,
    cuda=lazily("bittern.ops.linear_groups.cuda", "linear_groups_cuda"),
)

linear_groups.differentiate(make_function(linear_groups))
