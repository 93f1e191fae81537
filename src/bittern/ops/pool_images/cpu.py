# SPDX-License-Identifier: Apache-2.0
"""Pools of real images on the CPU: steps of a native program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.pool_images.rule import PoolRule


def pool_step(rule: PoolRule, x: Sequence[int], out: Tensor, affine: Tensor | None) -> np.ndarray:
    """The record of a pool behind x * alpha + beta, affine being float32 [2, channels].

    x: sizes [batch, height, width, channels]; its address and bytes are filled in later.
    """
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.POOL
    p = record["pool"]
    p["batch"], p["height"], p["width"], p["channels"] = x
    p["out_height"], p["out_width"] = out.shape[1:3]
    p["kernel_h"], p["kernel_w"] = rule.kernel
    p["stride_h"], p["stride_w"] = rule.stride
    p["pad_h"], p["pad_w"] = rule.padding
    p["average"], p["count_padding"] = rule.average, rule.count_padding
    p["affine"] = 0 if affine is None else affine.data_ptr()
    p["out"] = out.data_ptr()
    record["sizes"]["rows"], record["sizes"]["real"] = bytes_of(affine), bytes_of(out)
    return record


def mean_step(x: Sequence[int], out: Tensor, lanes: int) -> np.ndarray:
    """The record of the mean of each image's channels.

    x: sizes [batch, height, width, channels]; its address and bytes are filled in later. out: float32 [batch, 1, 1,
    channels]. lanes: the sum's order is that of torch for a contiguous row of pixels, with vectors of so many numbers:
    numbers i, i + lanes, ... in four sums side by side, then what fills no vector and one lane after another.
    """
    rule = PoolRule(average=True, kernel=x[1:3], stride=(1, 1), padding=(0, 0))
    record = pool_step(rule, x, out, None)
    record["pool"]["lanes"] = lanes
    return record
