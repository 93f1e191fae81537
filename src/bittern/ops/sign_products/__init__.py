# SPDX-License-Identifier: Apache-2.0
"""sign_products(a, b): products of the signs of two real tensors, one for each pair of matrices, exact.

a: [..., m, k], b: [..., n, k], with the same dimensions in front; float32, float64, float16 or bfloat16, one dtype
-> float32 [..., m, n]: sum over k of sign(a) * sign(b), a whole number; sign(0) = +1, NaN counts as -1.
On the CPU a product of at least `LEAST_COUNTED` multiply-accumulates is counted from packed bits; smaller ones, which
torch multiplies faster than bits are packed, and those on CUDA are products of floats: the same numbers.
Errors: TypeError for another dtype; ValueError for shapes that do not fit, or k > 2^24, where float32 is not exact.
Not differentiable: `bittern.attention_method` uses it where nothing asks for a gradient.
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.sign_products.cpu import LEAST_COUNTED, sign_products_cpu
from bittern.ops.sign_products.reference import sign_products_reference

__all__ = ["LEAST_COUNTED", "sign_products"]


def _check(a: Tensor, b: Tensor) -> None:
    check_dtype("sign_products", "a", a, FLOATS)
    fits = a.ndim == b.ndim >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-1]
    if not fits or a.dtype != b.dtype:
        raise ValueError(
            "sign_products: a must be [..., m, k] and b [..., n, k], with the same dimensions in front and one dtype; "
            f"got {list(a.shape)} {a.dtype} and {list(b.shape)} {b.dtype}; expand what is shared"
        )
    if a.shape[-1] > 2**24:
        raise ValueError(f"sign_products: k must be at most 2^24, where float32 is exact; got {a.shape[-1]}")
    check_same_device("sign_products", a=a, b=b)


def _fake(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.shape[-2])).float()


sign_products: Op[Tensor] = Op(
    "sign_products(Tensor a, Tensor b) -> Tensor",
    check=_check,
    reference=sign_products_reference,
    fake=_fake,
    cpu=sign_products_cpu,
    cuda=lazily("bittern.ops.sign_products.cuda", "sign_products_cuda"),
)
