# SPDX-License-Identifier: Apache-2.0
"""dequantize_groups(codes, scale, zero, group, out_features, in_features, dtype=torch.float32): a weight in numbers.

codes, scale, zero, group: W [out_features, in_features] as `linear_groups` takes it.
-> W = scale * (code - zero), difference and product rounded to float32 each, then to `dtype` (float32, bfloat16,
float16). zero None stands for 2^(bits - 1).
All implementations give the same bits. It has no derivatives: the weight is frozen.
Errors: TypeError for another dtype, ValueError for sizes that do not fit.
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.linear_groups.arguments import DequantizeGroupsArguments
from bittern.ops.linear_groups.check import check_weight
from bittern.ops.linear_groups.cpu import dequantize_groups_cpu
from bittern.ops.linear_groups.reference import dequantize_groups_reference
from bittern.ops.quantize_blockwise.check import check_float


def _check(a: DequantizeGroupsArguments) -> None:
    check_float("dequantize_groups", a.dtype)
    check_weight("dequantize_groups", a.codes, a.scale, a.zero, a.group, a.out_features, a.in_features)
    check_same_device("dequantize_groups", codes=a.codes, scale=a.scale, zero=a.zero)


def _fake(a: DequantizeGroupsArguments) -> Tensor:
    return a.scale.new_empty((a.out_features, a.in_features), dtype=a.dtype)


dequantize_groups: Op[Tensor] = Op(
    "dequantize_groups(Tensor codes, Tensor scale, Tensor? zero, int group, SymInt out_features, SymInt in_features,"
    " ScalarType dtype=6) -> Tensor",
    record=DequantizeGroupsArguments,
    check=_check,
    reference=dequantize_groups_reference,
    fake=_fake,
    cpu=dequantize_groups_cpu,
    cuda=lazily("bittern.ops.linear_groups.cuda", "dequantize_groups_cuda"),
)
