# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_pool` in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops.integer_pool.arguments import IntegerPoolRule


def integer_pool_reference(x: Tensor, rule: IntegerPoolRule) -> Tensor:
    """int8 [batch, channels, out_h, out_w]."""
    y = _means(x, rule) if rule.average else _maxima(x, rule)
    return y.clamp(rule.low, rule.high).to(torch.int8)


def _means(x: Tensor, rule: IntegerPoolRule) -> Tensor:
    inside = _sums(torch.ones_like(x[:1, :1], dtype=torch.float64), rule).long()
    total = _sums(x.double(), rule).long()
    half = torch.where(total > 0, inside // 2, -(inside // 2))
    return torch.div(total + half, inside, rounding_mode="trunc")


def _sums(x: Tensor, rule: IntegerPoolRule) -> Tensor:
    """Of each window, in float64, where they are exact."""
    return F.avg_pool2d(F.pad(x, tuple(rule.padding)), tuple(rule.kernel), tuple(rule.stride), divisor_override=1)


def _maxima(x: Tensor, rule: IntegerPoolRule) -> Tensor:
    padded = F.pad(x.float(), tuple(rule.padding), value=-128.0)
    return F.max_pool2d(padded, tuple(rule.kernel), tuple(rule.stride))
