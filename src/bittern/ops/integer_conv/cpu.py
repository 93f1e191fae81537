# SPDX-License-Identifier: Apache-2.0
"""Convolutions of int8 on the CPU: prepared weights, and steps of a native program."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, chosen_isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.fixed_point import ONE_BITS, scaled
from bittern.ops.integer_conv.arguments import IntegerEnds, IntegerGeometry

TWICE_INT8 = 256
"""What lies beyond it lies beyond the limits, whatever the zero point."""

MOST_ROUNDED = 2.0**30
"""Results rounded once that vectors take, zero points and rounding aside."""
MOST_NEAR = 2.0**15 - 2.0**8
"""Those that have room in int32 with 16 bits behind the point."""

FEW_BITS = 4
"""Of weights from -8 to 7, of which a byte holds two."""

ONE_PIXEL = IntegerGeometry()
"""Windows side by side: of a linear layer."""


class Ending(IntEnum):
    """How sums become int8, by the number that native code knows (IntegerEnding)."""

    ROUNDED_TWICE = 0
    ROUNDED_TWICE_ANY = 1
    ROUNDED_ONCE = 2
    ROUNDED_ONCE_ANY = 3
    RAISED = 4
    ROUNDED_ONCE_NEAR = 5


class PreparedIntegerConv:
    """`integer_conv` with fixed weights, laid out once for this CPU's kernel.

    w: int8 [out, channels / groups, kernel_h, kernel_w]; bias, multiplier, shift: int32 [out], of which the bias may be
    left out. The caller answers for sums that fit int32, multipliers that are not negative, and shifts in [-31, 30].
    Call with int8 [batch, channels, height, width] in any layout -> int8 [batch, out, out_h, out_w], channels last.
    """

    def __init__(
        self,
        w: Tensor,
        bias: Tensor | None,
        multiplier: Tensor,
        shift: Tensor,
        ends: IntegerEnds,
        geometry: IntegerGeometry = ONE_PIXEL,
        isa: Isa | None = None,
    ) -> None:
        self.isa = chosen_isa() if isa is None else isa
        self.out_channels = w.shape[0]
        self.channels = w.shape[1] * geometry.groups
        self.kernel = tuple(w.shape[2:])
        self.geometry = geometry
        self.ends = ends
        self._record = np.zeros(1, STEP)
        addend = torch.zeros_like(multiplier) if bias is None else bias
        rows = _constants_small(w, (addend, multiplier, shift), ends)
        self.ending = _ending(w, rows, ends)
        self._describe(_bits(w))
        given = torch.stack(rows).contiguous()
        weights, numbers = _native.integer_conv_sizes(int(self.isa), self._record.ctypes.data)
        self.weights = torch.empty(weights, dtype=torch.int8)
        self.rows = torch.empty(numbers, dtype=torch.int32)
        w = w.contiguous()
        addresses = w.data_ptr(), given.data_ptr(), self.weights.data_ptr(), self.rows.data_ptr()
        _native.integer_conv_prepare(int(self.isa), self._record.ctypes.data, *addresses)
        r, sizes = self._record["integer_conv"], self._record["sizes"]
        r["weights"], r["rows"] = self.weights.data_ptr(), self.rows.data_ptr()
        sizes["weights"], sizes["rows"] = bytes_of(self.weights), bytes_of(self.rows)

    def _describe(self, bits: int) -> None:
        """All but sizes of images and addresses."""
        record, geometry = self._record, self.geometry
        record["kind"] = StepKind.INTEGER_CONV
        r = record["integer_conv"]
        r["channels"], r["out_channels"], r["groups"] = self.channels, self.out_channels, geometry.groups
        r["kernel_h"], r["kernel_w"] = self.kernel
        r["stride_h"], r["stride_w"] = geometry.stride
        r["dilation_h"], r["dilation_w"] = geometry.dilation
        r["pad_left"], _, r["pad_top"], _ = geometry.padding
        r["zero"], r["out_zero"], _, r["low"], r["high"] = self.ends
        r["ending"], r["weight_bits"] = self.ending, bits

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        return self.geometry.output_size((height, width), self.kernel)

    def step(self, x: Sequence[int], out: Tensor) -> np.ndarray:
        """The record of one call. x: sizes [batch, height, width, channels]; its address and bytes are filled in later.

        out: int8 [batch, out_h, out_w, out], contiguous.
        """
        record = self._record.copy()
        r = record["integer_conv"]
        r["batch"], r["height"], r["width"], _ = x
        r["out_height"], r["out_width"] = out.shape[1:3]
        r["out"], record["sizes"]["real"] = out.data_ptr(), bytes_of(out)
        return record

    def __call__(self, x: Tensor) -> Tensor:
        images = x.permute(0, 2, 3, 1).contiguous()
        size = self.output_size(*images.shape[1:3])
        out = torch.empty((x.shape[0], *size, self.out_channels), dtype=torch.int8, device="cpu")
        record = self.step(images.shape, out)
        record["integer_conv"]["x"], record["sizes"]["input"] = images.data_ptr(), bytes_of(images)
        run_steps(self.isa, record)
        return out.permute(0, 3, 1, 2)


def _bits(w: Tensor) -> int:
    """Bits in which weights are kept; those of channels by themselves are few, and always bytes."""
    few = w.shape[1] > 1 and bool(((w >= -8) & (w <= 7)).all())
    return FEW_BITS if few else 8


def _constants_small(w: Tensor, rows: Sequence[Tensor], ends: IntegerEnds) -> list[Tensor]:
    """Bias, multiplier and shift, small for outputs without a weight: networks have such, with any bias.

    Their result y before the zero point is 2 y times a half.
    """
    bias, multiplier, shift = rows
    constant = (w.flatten(1) == 0).all(1)
    y = scaled(bias.long(), multiplier.long(), shift.long()).clamp(-TWICE_INT8, TWICE_INT8).int()
    pairs = ((2 * y, bias), (torch.full_like(multiplier, 2**30), multiplier), (torch.zeros_like(shift), shift))
    return list(rows) if ends.once else [torch.where(constant, small, row) for small, row in pairs]


def _ending(w: Tensor, rows: Sequence[Tensor], ends: IntegerEnds) -> Ending:
    """How vectors of int32 hold what becomes of the largest sums; rounded once, that is their product."""
    bias, multiplier, shift = (row.long() for row in rows)
    if not ends.once:
        return rounded_twice(w, bias, multiplier, shift, ends.zero)
    most = float((_largest_sums(w, bias, ends.zero).double() * multiplier * torch.pow(2.0, shift - ONE_BITS)).max())
    if most < MOST_NEAR:
        return Ending.ROUNDED_ONCE_NEAR
    return Ending.ROUNDED_ONCE if most < MOST_ROUNDED else Ending.ROUNDED_ONCE_ANY


def rounded_twice(w: Tensor, bias: Tensor, multiplier: Tensor, shift: Tensor, zero: int) -> Ending:
    """How vectors of int32 hold `scaled` of the largest sums of w (x - zero) + bias: their product, and half of a step
    beside it. A number that a factor of 1 and more raises is held to int32, and not shifted after that.

    bias, multiplier, shift: int64 [out].
    """
    half = 1 << (-shift - 1).clamp(min=0)
    small = ((_largest_sums(w, bias, zero) * multiplier >> ONE_BITS) + half + 2 < 2**31) | (shift > 0)
    if not bool(small.all()):
        return Ending.ROUNDED_TWICE_ANY
    return Ending.RAISED if bool((shift > 0).any()) else Ending.ROUNDED_TWICE


def _largest_sums(w: Tensor, bias: Tensor, zero: int) -> Tensor:
    return w.flatten(1).long().abs().sum(1) * max(127 - zero, zero + 128) + bias.abs()
