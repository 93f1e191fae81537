# SPDX-License-Identifier: Apache-2.0
"""int8 to float on the CPU: steps of a native program."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bittern.ops._isa import chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.integer_dequantize.reference import integer_dequantize_reference


class PreparedIntegerDequantize:
    """`integer_dequantize` of one scale and zero point, with its 256 answers.

    Call with int8 of any shape -> float32 of that shape.
    """

    def __init__(self, scale: float, zero: int) -> None:
        self.table = integer_dequantize_reference(torch.arange(-128, 128, dtype=torch.int8), scale, zero).contiguous()

    def step(self, out: Tensor) -> np.ndarray:
        """The record of one call; its input's address and bytes are filled in later. out: float32, contiguous."""
        record = np.zeros(1, STEP)
        record["kind"] = StepKind.INTEGER_DEQUANTIZE
        r, sizes = record["integer_dequantize"], record["sizes"]
        r["count"], r["table"], r["out"] = out.numel(), self.table.data_ptr(), out.data_ptr()
        sizes["rows"], sizes["real"] = bytes_of(self.table), bytes_of(out)
        return record

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        out = torch.empty(x.shape, dtype=torch.float32, device="cpu")
        record = self.step(out)
        record["integer_dequantize"]["x"], record["sizes"]["input"] = x.data_ptr(), bytes_of(x)
        run_steps(chosen_isa(), record)
        return out
