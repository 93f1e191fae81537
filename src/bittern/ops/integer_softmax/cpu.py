# SPDX-License-Identifier: Apache-2.0
"""Softmax of int8 rows on the CPU: steps of a native program."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bittern.ops._isa import chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.fixed_point import Factor
from bittern.ops.integer_softmax.reference import exponentials

DIFFERENCES = 256
"""Of two int8 numbers."""


class PreparedIntegerSoftmax:
    """`integer_softmax` of one scale, with its exponentials of all differences.

    Call with int8 [rows, answers] -> the same.
    """

    def __init__(self, factor: Factor, least: int) -> None:
        self.least = least
        self.exps = exponentials(-torch.arange(DIFFERENCES), factor, least).int()

    def step(self, out: Tensor) -> np.ndarray:
        """The record of one call; its input's address and bytes are filled in later. out: int8 [rows, answers]."""
        record = np.zeros(1, STEP)
        record["kind"] = StepKind.INTEGER_SOFTMAX
        r, sizes = record["integer_softmax"], record["sizes"]
        r["rows"], r["answers"] = out.shape
        r["least"], r["exps"], r["out"] = self.least, self.exps.data_ptr(), out.data_ptr()
        sizes["rows"], sizes["real"] = bytes_of(self.exps), bytes_of(out)
        return record

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        record = self.step(out)
        record["integer_softmax"]["x"], record["sizes"]["input"] = x.data_ptr(), bytes_of(x)
        run_steps(chosen_isa(), record)
        return out
