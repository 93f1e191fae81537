# SPDX-License-Identifier: Apache-2.0
"""The meaning of `multibit_matvec` in plain torch."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.multibit_matvec.arguments import MultibitMatvecArguments
from bittern.ops.unpack_signs.reference import unpack_signs_reference


def multibit_matvec_reference(a: MultibitMatvecArguments) -> Tensor:
    """The products of all pairs of planes, scaled and added in their order."""
    w, x = (unpack_signs_reference(words, a.in_features) for words in (a.w, a.x))
    return summed([[plane @ weight.T for weight in w] for plane in x], a)


def summed(products: list[list[Tensor]], a: MultibitMatvecArguments) -> Tensor:
    """products: for each plane of x those with the planes of w, float32 [*batch, rows], exact."""
    total: Tensor | None = None
    for of_x, c in zip(products, a.x_scale.unbind(-1), strict=True):
        for acc, scale in zip(of_x, a.w_scale.unbind(1), strict=True):
            y = acc * scale * c.unsqueeze(-1)
            total = y if total is None else total + y
    assert total is not None
    return total if a.bias is None else total + a.bias
