# SPDX-License-Identifier: Apache-2.0
"""The input scale of a product (XNOR-Net's K) by operators of torch, in whatever order those add.

For files from before `ops.mean_magnitude` gave the sums an order, whose answers stay what they were, and for other
formats, which have such operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from bittern.deploy.kinds.kind import contiguous, integer, integers
from bittern.deploy.program import Node
from bittern.quantizer import InputScale


def torch_scale(node: Node) -> Callable[[Tensor], Tensor]:
    """Function from the real input to the scale of the output."""
    if integer(node, "dims") == 0:
        return lambda x: contiguous(x).abs().mean(-1, keepdim=True)
    if node.attrs["input_scale"] == InputScale.PER_SAMPLE.value:
        return lambda x: contiguous(x).abs().mean(tuple(range(1, x.ndim)), keepdim=True)
    spread = _spread(node)
    return lambda x: spread(contiguous(x).abs().mean(1, keepdim=True))


def _spread(node: Node) -> Callable[[Tensor], Tensor]:
    """From means per pixel to means over what each output sees, with zeros outside."""
    kernel, stride, padding, dilation = (integers(node, key) for key in ("kernel", "stride", "padding", "dilation"))
    if set(dilation) == {1} and all(2 * p <= k for p, k in zip(padding, kernel, strict=True)):
        pool = F.avg_pool1d if len(kernel) == 1 else F.avg_pool2d
        return lambda mean: pool(mean, kernel, stride, padding)
    conv = F.conv1d if len(kernel) == 1 else F.conv2d

    def by_convolution(mean: Tensor) -> Tensor:
        box = mean.new_full((1, 1, *kernel), 1.0)
        return conv(mean, box, None, stride, padding, dilation) / math.prod(kernel)

    return by_convolution
