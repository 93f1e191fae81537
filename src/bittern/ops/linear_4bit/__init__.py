# SPDX-License-Identifier: Apache-2.0
"""linear_4bit(x, packed, absmax, code, block_size, out_features, bias=None, absmax_scales=None, absmax_offset=None): a
linear layer from 4-bit weights.

x: [..., in_features] float32, bfloat16 or float16. packed, absmax, code, block_size: W [out_features, in_features] as
`quantize_4bit` packs it, two codes per byte; here the table may have any order. bias: [out_features] of x's dtype.
absmax may also be uint8 [blocks], decoded on the way, to the bits that decoding them first gives: with absmax_scales
(float32 [ceil(blocks / 256)]) and absmax_offset (float32 []) nested, as `quantize_absmax` has them; without them e that
mean 2^(e - 127), 255 NaN (E8M0).
-> [..., out_features] of x's dtype.
y = x W^T + bias. W is decoded and rounded to x's dtype; products and sums are float32, in no fixed order; y is rounded
once. W is never written to memory as a whole.
Derivatives, of any order and in forward mode too: of x, by `linear_4bit_backward`, and of bias; W is frozen.
Errors: TypeError for another dtype, ValueError for sizes that do not fit, NotImplementedError for a derivative of W.
Reference: QLoRA (arXiv:2305.14314).
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.linear_4bit.arguments import Linear4bitArguments
from bittern.ops.linear_4bit.backward import linear_4bit_backward
from bittern.ops.linear_4bit.check import check_weight
from bittern.ops.linear_4bit.cpu import linear_4bit_cpu
from bittern.ops.linear_4bit.derivatives import differentiate
from bittern.ops.linear_4bit.reference import linear_4bit_reference
from bittern.ops.quantize_blockwise.check import FLOATS

__all__ = ["linear_4bit", "linear_4bit_backward"]


def _check(a: Linear4bitArguments) -> None:
    x, packed, absmax, code, block_size, out_features, bias, scales, offset = a
    check_dtype("linear_4bit", "x", x, FLOATS)
    if x.ndim == 0:
        raise ValueError("linear_4bit: x must be [..., in_features]; got a scalar; give it a dimension of features")
    check_weight("linear_4bit", packed, absmax, code, block_size, out_features, x.shape[-1], scales, offset)
    tensors = {"packed": packed, "absmax": absmax, "code": code, "absmax_scales": scales, "absmax_offset": offset}
    check_same_device("linear_4bit", x=x, bias=bias, **tensors)
    if bias is not None and (bias.dtype != x.dtype or tuple(bias.shape) != (out_features,)):
        raise ValueError(
            f"linear_4bit: bias must be {x.dtype} [{out_features}]; got {bias.dtype} {list(bias.shape)}; cast it first"
        )


def _fake(a: Linear4bitArguments) -> Tensor:
    return a.x.new_empty((*a.x.shape[:-1], a.out_features))


linear_4bit: Op[Tensor] = Op(
    "linear_4bit(Tensor x, Tensor packed, Tensor absmax, Tensor code, int block_size, SymInt out_features,"
    " Tensor? bias=None, Tensor? absmax_scales=None, Tensor? absmax_offset=None) -> Tensor",
    record=Linear4bitArguments,
    check=_check,
    reference=linear_4bit_reference,
    fake=_fake,
    cpu=linear_4bit_cpu,
    cuda=lazily("bittern.ops.linear_4bit.cuda", "linear_4bit_cuda"),
)

differentiate(linear_4bit, linear_4bit_backward)
