# SPDX-License-Identifier: Apache-2.0
"""linear_4bit_backward(grad, packed, absmax, code, block_size, in_features, absmax_scales=None, absmax_offset=None):
the gradient of `linear_4bit`'s input.

grad: [..., out_features] float32, bfloat16 or float16. packed, absmax, code, block_size: W [out_features, in_features]
as `quantize_4bit` packs it; absmax may be in bytes as in `linear_4bit`, with absmax_scales and absmax_offset.
-> [..., in_features] of grad's dtype: grad W, where W is decoded and rounded to grad's
dtype; products and sums are float32, in no fixed order. Its own derivative of grad is `linear_4bit`.
Errors: TypeError for another dtype, ValueError for sizes that do not fit.
Reference: QLoRA (arXiv:2305.14314).
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.linear_4bit.arguments import BackwardArguments
from bittern.ops.linear_4bit.check import check_weight
from bittern.ops.linear_4bit.cpu import linear_4bit_backward_cpu
from bittern.ops.linear_4bit.reference import linear_4bit_backward_reference
from bittern.ops.quantize_blockwise.check import FLOATS


def _check(a: BackwardArguments) -> None:
    grad, packed, absmax, code, block_size, in_features, scales, offset = a
    check_dtype("linear_4bit_backward", "grad", grad, FLOATS)
    if grad.ndim == 0:
        raise ValueError("linear_4bit_backward: grad must be [..., out_features]; got a scalar; give it a dimension")
    check_weight("linear_4bit_backward", packed, absmax, code, block_size, grad.shape[-1], in_features, scales, offset)
    tensors = {"packed": packed, "absmax": absmax, "code": code, "absmax_scales": scales, "absmax_offset": offset}
    check_same_device("linear_4bit_backward", grad=grad, **tensors)


def _fake(a: BackwardArguments) -> Tensor:
    return a.grad.new_empty((*a.grad.shape[:-1], a.in_features))


linear_4bit_backward: Op[Tensor] = Op(
    "linear_4bit_backward(Tensor grad, Tensor packed, Tensor absmax, Tensor code, int block_size,"
    " SymInt in_features, Tensor? absmax_scales=None, Tensor? absmax_offset=None) -> Tensor",
    record=BackwardArguments,
    check=_check,
    reference=linear_4bit_backward_reference,
    fake=_fake,
    cpu=linear_4bit_backward_cpu,
    cuda=lazily("bittern.ops.linear_4bit.cuda", "linear_4bit_backward_cuda"),
)
