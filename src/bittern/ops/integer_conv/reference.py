# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_conv` in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops.fixed_point import scaled, scaled_once
from bittern.ops.integer_conv.arguments import IntegerEnds, IntegerGeometry


def integer_conv_reference(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    multiplier: Tensor,
    shift: Tensor,
    ends: IntegerEnds,
    geometry: IntegerGeometry,
) -> Tensor:
    """int8 [batch, out, out_h, out_w]; sums in float64, where they are exact."""
    centred = F.pad(x.double() - ends.zero, tuple(geometry.padding))
    stride, dilation = tuple(geometry.stride), tuple(geometry.dilation)
    sums = F.conv2d(centred, w.double(), None, stride, 0, dilation, geometry.groups).long()
    factors = (row.long().view(-1, 1, 1) for row in (multiplier, shift))
    if bias is not None:
        sums = sums + bias.long().view(-1, 1, 1)
    y = (scaled_once if ends.once else scaled)(sums, *factors)
    return (y + ends.out_zero).clamp(ends.low, ends.high).to(torch.int8)
