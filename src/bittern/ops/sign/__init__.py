# SPDX-License-Identifier: Apache-2.0
"""sign(x): the sign of each element, where sign(0) = sign(-0.0) = +1 and sign(NaN) = -1.

x: any shape, float32, float64, float16, bfloat16 or int32 -> same shape and dtype, values in {-1, +1}.
    y = +1 where x >= 0, else -1
y lies in memory as x does (channels-last stays so); where x has gaps, as torch.empty_like(x).
Errors: TypeError for another dtype. Not differentiable: training uses an estimator (bittern.binary).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype
from bittern.ops._op import Op, lazily
from bittern.ops.sign.cpu import sign_cpu
from bittern.ops.sign.reference import sign_reference

__all__ = ["sign"]


def _check(x: Tensor) -> None:
    check_dtype("sign", "x", x, (*FLOATS, torch.int32))


sign: Op[Tensor] = Op(
    "sign(Tensor x) -> Tensor",
    check=_check,
    reference=sign_reference,
    fake=torch.empty_like,
    cpu=sign_cpu,
    cuda=lazily("bittern.ops.sign.cuda", "sign_cuda"),
)
