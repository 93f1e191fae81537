# SPDX-License-Identifier: Apache-2.0
"""The meaning of `real_linear` in plain torch."""

from __future__ import annotations

from torch import Tensor

from bittern.ops._epilogue import fused_multiply_add
from bittern.ops.real_linear.order import SumTree, TreePart


def real_linear_reference(x: Tensor, w: Tensor, bias: Tensor | None, order: SumTree) -> Tensor:
    """float32 [rows, out] of x [rows, features]: the sums of a tree."""
    products = iter(order.products)
    held: list[Tensor] = []
    for part, count in order.parts:
        if part == TreePart.ADD:
            last = held.pop()
            held[-1] = held[-1] + last
        elif part == TreePart.BIAS:
            assert bias is not None
            held.append(bias.expand(x.shape[0], -1))
        else:
            if part == TreePart.START:
                held.append(x.new_zeros(x.shape[0], w.shape[0]))
            for _ in range(count):
                at = next(products)
                column, weights = x[:, at, None].expand_as(held[-1]), w[:, at]
                if order.fused:
                    held[-1] = fused_multiply_add(column, weights, held[-1])
                else:
                    held[-1] = held[-1] + column * weights
    (y,) = held
    return y
