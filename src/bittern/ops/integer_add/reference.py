# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_add` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.fixed_point import scaled
from bittern.ops.integer_add.arguments import IntegerSum

LEFT_SHIFT = 20
"""Bits by which both go up before their factors, which are at most 1, so that those cost no precision."""


def integer_add_reference(a: Tensor, b: Tensor, rule: IntegerSum) -> Tensor:
    """int8 of the shape to which both broadcast."""
    first = scaled((a.long() - rule.zero_a) << LEFT_SHIFT, *rule.a)
    second = scaled((b.long() - rule.zero_b) << LEFT_SHIFT, *rule.b)
    y = scaled(first + second, *rule.own) + rule.out_zero
    return y.clamp(rule.low, rule.high).to(torch.int8)
