# SPDX-License-Identifier: Apache-2.0
"""Operations on real images on the CPU: a step of a native program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops.binary_block.layout import MAP_UNIT, STEP, StepKind, bytes_of
from bittern.ops.map_images.operation import MapStep


class PreparedMap:
    """Operations one after another, their parameters laid out for native code."""

    def __init__(self, steps: Sequence[MapStep], channels: int) -> None:
        self.channels = channels
        table, rows, count = [], [torch.empty(0, channels, dtype=torch.float32)], 0
        for step in steps:
            table.append((int(step.operation), count))
            if step.rows is not None:
                rows.append(step.rows)
                count += len(step.rows)
        self.operations = torch.tensor(table, dtype=torch.int64).view(-1, 2)
        self.rows = F.pad(torch.cat(rows), (0, -channels % MAP_UNIT)).contiguous()

    def step(self, x: Sequence[int], out: Tensor, residual: int = 0, factor: int = 0) -> np.ndarray:
        """The record of one call; the addresses and bytes of `x`, `residual` and `factor` are filled in later.

        x: sizes [batch, height, width, channels]. residual, factor: pixels of an image of these operands, or 0.
        """
        record = np.zeros(1, STEP)
        record["kind"] = StepKind.MAP
        m = record["map"]
        batch, height, width, channels = x
        m["batch"], m["pixels"], m["channels"] = batch, height * width, channels
        m["residual_pixels"], m["factor_pixels"] = residual, factor
        m["count"], m["row_count"] = len(self.operations), len(self.rows)
        m["operations"], m["rows"], m["out"] = self.operations.data_ptr(), self.rows.data_ptr(), out.data_ptr()
        sizes = record["sizes"]
        sizes["tree"], sizes["rows"], sizes["real"] = bytes_of(self.operations), bytes_of(self.rows), bytes_of(out)
        return record
