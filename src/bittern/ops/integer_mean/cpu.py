# SPDX-License-Identifier: Apache-2.0
"""Means of whole int8 images on the CPU: steps of a native program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bittern.ops._isa import Isa, chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.integer_mean.arguments import IntegerMeanRule


def integer_mean_step(rule: IntegerMeanRule, x: Sequence[int], out: Tensor) -> np.ndarray:
    """The record of a mean. x: sizes [batch, height, width, channels]; its address and bytes are filled in later.

    out: int8 [batch, channels], contiguous.
    """
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.INTEGER_MEAN
    r = record["integer_mean"]
    r["batch"], height, width, r["channels"] = x
    r["pixels"] = height * width
    for name in ("zero", "out_zero", "low", "high"):
        r[name] = getattr(rule, name)
    r["multiplier"], r["shift"] = rule.factor
    r["out"], record["sizes"]["real"] = out.data_ptr(), bytes_of(out)
    return record


def integer_mean(x: Tensor, rule: IntegerMeanRule, isa: Isa | None = None) -> Tensor:
    """int8 [batch, channels, height, width] in any layout -> int8 [batch, channels]."""
    images = x.permute(0, 2, 3, 1).contiguous()
    out = torch.empty(x.shape[:2], dtype=torch.int8, device="cpu")
    record = integer_mean_step(rule, images.shape, out)
    record["integer_mean"]["x"], record["sizes"]["input"] = images.data_ptr(), bytes_of(images)
    run_steps(chosen_isa() if isa is None else isa, record)
    return out
