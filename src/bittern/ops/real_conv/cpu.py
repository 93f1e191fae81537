# SPDX-License-Identifier: Apache-2.0
"""Real convolutions on the CPU: prepared weights, and steps of a native program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._windows import convolved_size
from bittern.ops.binary_block.layout import REAL_UNIT, STEP, StepKind, bytes_of, extent_of, point
from bittern.ops.pool_images.cpu import pool_step
from bittern.ops.pool_images.rule import PoolRule
from bittern.ops.real_conv.order import SumOrder

TOGETHER = 2 * REAL_UNIT
"""Output channels to a multiple of which the weights of a group are padded (kUnitsTogether * kRealUnit)."""


class PreparedRealConv:
    """A real convolution without bias, its weights laid out for one order of summation.

    w: float32 [out, channels / groups, kernel_h, kernel_w]. Every output is a sum in that order: the same bits at every
    instruction set and number of threads. affine: float32 [2, out], rows alpha and beta of an fma that follows; limits:
    the least and the most of what follows that (hardtanh, relu), NaN stays.
    """

    def __init__(
        self,
        w: Tensor,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        order: SumOrder,
        affine: Tensor | None = None,
        limits: tuple[float, float] | None = None,
        groups: int = 1,
    ) -> None:
        self.out_channels, self.channels, *self.kernel = w.shape
        self.groups = groups
        self.stride, self.padding, self.dilation = tuple(stride), tuple(padding), tuple(dilation)
        self.order = order
        rows = (w if order.channels_first else w.permute(0, 2, 3, 1)).reshape(groups, self.out_channels // groups, -1)
        padded = F.pad(rows, (0, 0, 0, -rows.shape[1] % TOGETHER))
        # the last tile of a group may begin anywhere
        beyond = -self.out_channels % TOGETHER + TOGETHER
        self.affine = None if affine is None else F.pad(affine, (0, beyond))
        self.limits = None if limits is None else torch.tensor(limits, dtype=torch.float32)
        self.weights = padded.reshape(-1, REAL_UNIT, rows.shape[2]).transpose(1, 2).contiguous()

    @property
    def products(self) -> int:
        """Terms of one sum."""
        return self.weights.shape[1]

    def step(self, x: Tensor, out: Tensor) -> np.ndarray:
        """The record of one call. x: float32 [batch, height, width, channels] in any layout; out: contiguous."""
        record = np.zeros(1, STEP)
        record["kind"] = StepKind.REAL
        r = record["real"]
        r["batch"], r["height"], r["width"], r["channels"] = x.shape
        r["out_height"], r["out_width"], r["out_channels"] = out.shape[1:]
        r["kernel_h"], r["kernel_w"] = self.kernel
        r["stride_h"], r["stride_w"] = self.stride
        r["pad_h"], r["pad_w"] = self.padding
        r["dilation_h"], r["dilation_w"] = self.dilation
        r["groups"] = self.groups
        r["channels_first"], r["chain"], r["in_turn"] = self.order
        r["weights"], r["out"] = self.weights.data_ptr(), out.data_ptr()
        r["affine"] = 0 if self.affine is None else self.affine.data_ptr()
        r["limits"] = 0 if self.limits is None else self.limits.data_ptr()
        sizes = record["sizes"]
        sizes["weights"], sizes["rows"], sizes["mask"] = map(bytes_of, (self.weights, self.affine, self.limits))
        sizes["real"] = extent_of(out)
        point(record, "real", x)
        return record

    def pooled_step(self, x: Tensor, rule: PoolRule, out: Tensor) -> np.ndarray:
        """The record of the convolution and the maxima over windows of its results, which are never all there at once.

        x: as for `step`; out: float32 [batch, height, width, out], contiguous.
        """
        size = convolved_size(x.shape[1:3], self.kernel, self.stride, self.padding, self.dilation)
        sizes = (x.shape[0], *size, self.out_channels)
        record = self.step(x, out.new_empty(1).expand(sizes))
        record["kind"] = StepKind.REAL_POOL
        record["real"]["out"] = 0
        record["pool"], record["sizes"]["real"] = pool_step(rule, sizes, out, None)["pool"], bytes_of(out)
        return record
