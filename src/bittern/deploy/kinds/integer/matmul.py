# SPDX-License-Identifier: Apache-2.0
"""Products of two int8 matrices that are both computed, as attention has them.

y = zero_y + M sum_k (a[n, k] - zero_a) (b[k, m] - zero_b), M a fixed-point factor: TensorFlow Lite's BATCH_MATMUL
(reference/batch_matmul.h), which rounds it as a convolution's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.pairs import ZEROS
from bittern.deploy.kinds.integer.parts import (
    LEAST,
    MOST,
    SUM_BYTES,
    factor_at,
    factor_rules,
    int8_form,
    limited,
    need_int8,
)
from bittern.deploy.kinds.kind import Kind, Step, flag, integer
from bittern.deploy.program import Node
from bittern.ops.fixed_point import scaled, scaled_once

MATRIX_DIMS = 2


def most_sum(count: int, zero_a: int, zero_b: int) -> int:
    """The largest magnitude of a sum of so many products of int8 numbers about these zero points."""
    a, b = (max(MOST - zero, zero - LEAST) for zero in (zero_a, zero_b))
    return count * a * b


def _form(node: Node, tensors: Tensors, a: Form, b: Form) -> Form:
    need_int8(node, a)
    need_int8(node, b)
    before, (rows, inner) = a.shape[:-MATRIX_DIMS], a.shape[-MATRIX_DIMS:]
    fits = len(a.shape) > MATRIX_DIMS and b.shape[:-MATRIX_DIMS] == before and b.shape[-MATRIX_DIMS] == inner
    need(node, fits, f"it takes [batch, ..., n, k] and [batch, ..., k, m]; got {list(a.shape)} and {list(b.shape)}")
    most = most_sum(inner, integer(node, "zero_a"), integer(node, "zero_b"))
    need(node, most < 2**31, f"its sums may reach {most}, and int32 holds less than 2^31")
    return int8_form((*before, rows, b.shape[-1]))


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    zero_a, zero_b = (integer(node, key) for key in ("zero_a", "zero_b"))
    factor, end, times = factor_at(node), limited(node), scaled_once if node.attrs["once"] else scaled

    def step(a: Tensor, b: Tensor) -> Tensor:
        sums = (a.double() - zero_a) @ (b.double() - zero_b)
        return end(times(sums.long(), *factor))

    return step


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Matrices in float64, in the layout that torch multiplies, and some copies of the sums."""
    return SUM_BYTES * (3 * sum(x.elements for x in inputs) + 8 * form.elements)


MATMUL = Kind(
    name="integer_matmul",
    inputs=(2,),
    attrs={**ZEROS, "once": flag(default=False), **factor_rules()},
    shape=_form,
    build=_build,
    low_bit=True,
    working=_working,
)
"""int8 [B, ..., n, k] times int8 [B, ..., k, m]; `once`: the factor rounds once (`scaled_once`), not twice."""
