# SPDX-License-Identifier: Apache-2.0
"""Float images to int8 on the CPU: steps of a native program."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bittern.ops._isa import Isa, chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of, point


class PreparedIntegerQuantize:
    """`integer_quantize` of one scale and zero point.

    Call with float32 [batch, channels, height, width] in any layout -> int8 of that shape, channels last.
    """

    def __init__(self, scale: float, zero: int, isa: Isa | None = None) -> None:
        self.isa = chosen_isa() if isa is None else isa
        self.scale = torch.tensor([scale], dtype=torch.float32)
        self.zero = zero

    def step(self, images: Tensor, out: Tensor) -> np.ndarray:
        """The record of one call. images: float32 [batch, height, width, channels], as they lie.

        out: int8 of that shape, contiguous.
        """
        record = np.zeros(1, STEP)
        record["kind"] = StepKind.INTEGER_QUANTIZE
        r, sizes = record["integer_quantize"], record["sizes"]
        r["batch"], r["height"], r["width"], r["channels"] = images.shape
        r["zero"], r["scale"], r["out"] = self.zero, self.scale.data_ptr(), out.data_ptr()
        sizes["rows"], sizes["real"] = bytes_of(self.scale), bytes_of(out)
        point(record, "integer_quantize", images)
        return record

    def __call__(self, x: Tensor) -> Tensor:
        images = x.permute(0, 2, 3, 1)
        out = torch.empty(images.shape, dtype=torch.int8, device="cpu")
        run_steps(self.isa, self.step(images, out))
        return out.permute(0, 3, 1, 2)
