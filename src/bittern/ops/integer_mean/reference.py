# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_mean` in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.ops.fixed_point import scaled
from bittern.ops.integer_mean.arguments import IntegerMeanRule


def integer_mean_reference(
    x: Tensor, rule: IntegerMeanRule, dims: Sequence[int] = (2, 3), keep: bool = False
) -> Tensor:
    """int8 without the dimensions `dims`, or with 1 in their place."""
    y = scaled((x.long() - rule.zero).sum(list(dims), keep), *rule.factor) + rule.out_zero
    return y.clamp(rule.low, rule.high).to(torch.int8)
