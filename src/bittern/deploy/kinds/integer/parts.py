# SPDX-License-Identifier: Apache-2.0
"""What kinds of integers share: forms of int8 values, and the attributes of zero points, factors and limits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bittern.deploy.form import BATCHES, Form, Shape, Tensors, need
from bittern.deploy.kinds.kind import AttrRule, count, integer
from bittern.deploy.program import Node
from bittern.ops.fixed_point import Factor, scaled, scaled_once

LEAST, MOST = -128, 127
INT8 = torch.int8
SUM_BYTES = 8
"""Of a sum while a step of torch works on it, and of the numbers of its product."""


def int8_form(shape: Shape) -> Form:
    """An int8 value of one sample [1, ...]."""
    fewer, more = (torch.empty((n * shape[0], *shape[1:]), dtype=INT8, device="meta") for n in BATCHES)
    return Form(shape, "int8", meta=(fewer, more))


def need_int8(node: Node, x: Form, *dims: int) -> None:
    """Refuse what is no int8 value of so many dimensions, whichever if none are told."""
    need(node, x.type == "int8", f"it takes an int8 value; got {x.type}")
    need(node, x.samples_first, f"it takes [batch, ...]; got {list(x.shape)} for one sample, and the batch elsewhere")
    need(node, not dims or len(x.shape) in dims, f"it takes {dims} dimensions; got {list(x.shape)}")


def zero_point(least: int = LEAST, most: int = MOST) -> AttrRule:
    return count(least, most)


LIMITS = {"low": count(LEAST, MOST, default=LEAST), "high": count(LEAST, MOST, default=MOST)}
"""Between which results lie: a fused activation."""


def factor_rules(prefix: str = "") -> dict[str, AttrRule]:
    """The two attributes of a fixed-point factor."""
    return {f"{prefix}multiplier": count(0, 2**31 - 1), f"{prefix}shift": count(-31, 30)}


def factor_at(node: Node, prefix: str = "") -> Factor:
    return Factor(integer(node, f"{prefix}multiplier"), integer(node, f"{prefix}shift"))


def limited(node: Node) -> Callable[[Tensor], Tensor]:
    """Adds the zero point of the result to int64 numbers, holds them between the limits, and makes them int8."""
    zero, low, high = (integer(node, key) for key in ("out_zero", "low", "high"))
    return lambda x: (x + zero).clamp(low, high).to(INT8)


def ending(node: Node, tensors: Tensors, device: torch.device, space: int) -> Callable[[Tensor], Tensor]:
    """What becomes of sums [batch, channels, *space] of a product in float64, which are whole numbers."""
    shape = (-1, *(1,) * space)
    multiplier, shift = (tensors[role].to(device).long().view(shape) for role in ("multiplier", "shift"))
    bias = tensors["bias"].to(device).long().view(shape) if "bias" in tensors else 0
    end, times = limited(node), scaled_once if node.attrs["once"] else scaled
    return lambda sums: end(times(sums.long() + bias, multiplier, shift))
