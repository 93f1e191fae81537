# SPDX-License-Identifier: Apache-2.0
"""Pools of int8 images on the CPU: steps of a native program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bittern.ops._isa import Isa, chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.integer_pool.arguments import IntegerPoolRule


def integer_pool_step(rule: IntegerPoolRule, x: Sequence[int], out: Tensor) -> np.ndarray:
    """The record of a pool. x: sizes [batch, height, width, channels]; its address and bytes are filled in later.

    out: int8 [batch, out_h, out_w, channels], contiguous.
    """
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.INTEGER_POOL
    r = record["integer_pool"]
    r["batch"], r["height"], r["width"], r["channels"] = x
    r["out_height"], r["out_width"] = out.shape[1:3]
    r["kernel_h"], r["kernel_w"] = rule.kernel
    r["stride_h"], r["stride_w"] = rule.stride
    r["pad_left"], _, r["pad_top"], _ = rule.padding
    r["average"], r["low"], r["high"] = rule.average, rule.low, rule.high
    r["out"], record["sizes"]["real"] = out.data_ptr(), bytes_of(out)
    return record


def integer_pool(x: Tensor, rule: IntegerPoolRule, isa: Isa | None = None) -> Tensor:
    """int8 [batch, channels, height, width] in any layout -> int8 [batch, channels, out_h, out_w], channels last."""
    images = x.permute(0, 2, 3, 1).contiguous()
    size = rule.output_size(images.shape[1:3])
    out = torch.empty((x.shape[0], *size, x.shape[1]), dtype=torch.int8, device="cpu")
    record = integer_pool_step(rule, images.shape, out)
    record["integer_pool"]["x"], record["sizes"]["input"] = images.data_ptr(), bytes_of(images)
    run_steps(chosen_isa() if isa is None else isa, record)
    return out.permute(0, 3, 1, 2)
