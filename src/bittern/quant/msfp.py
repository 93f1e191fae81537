# SPDX-License-Identifier: Apache-2.0
"""Block floating point: boxes of numbers that share an exponent, as Brainwave's MSFP and MX have them (2020)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from bittern._options import check_choice
from bittern.codes import Floats
from bittern.estimators import straight_through
from bittern.quantizer import REAL_BITS, InputCode, LayerShape, Method, Quantized, Quantizer, RealCode

Overflow = Literal["saturate", "nan"]
"""What becomes of a box whose exponent is too large."""
MOST_MANTISSA = 23
"""A float32 has no more bits behind its first."""


def block_float(
    x: Tensor, mantissa_bits: int, box: int, dim: int, *, exponent_bits: int = 8, overflow: Overflow = "saturate"
) -> Tensor:
    """x with one exponent for each `box` numbers along `dim`, the last box of what is left; carries no gradient.

    With m = mantissa_bits and E = floor(log2 max |x|) of a box: step = 2^(E - m + 1), and a number is step *
    clip(round_half_even(x / step), -(2^m - 1), 2^m - 1): a sign and m bits, no hidden one. A box of zeros stays.
    E lies in +-(2^(exponent_bits - 1) - 1): a smaller one is the smallest; a larger one is the largest ("saturate") or
    makes the box NaN ("nan", as MX). A box that holds NaN or infinity is NaN.
    """
    size = x.shape[dim]
    boxes = -(-size // box)
    moved = torch.nn.functional.pad(x.detach().movedim(dim, -1), (0, boxes * box - size))
    moved = moved.reshape(*moved.shape[:-1], boxes, box).double()
    most = moved.abs().amax(-1, keepdim=True)
    exponent = torch.frexp(most)[1] - 1
    limit = 2 ** (exponent_bits - 1) - 1
    step = torch.ldexp(torch.ones_like(most), exponent.clamp(-limit, limit) - (mantissa_bits - 1))
    top = 2.0**mantissa_bits - 1.0
    rounded = torch.round(moved / step).clamp(-top, top) * step
    broken = ~most.isfinite() | ((exponent > limit) if overflow == "nan" else torch.zeros_like(most, dtype=torch.bool))
    rounded = torch.where(broken, torch.nan, torch.where(most == 0, moved, rounded))
    return rounded.flatten(-2)[..., :size].movedim(-1, dim).to(x.dtype)


class MSFP(Quantizer):
    """Weights and inputs in boxes of `box` neighbours along the channels, each with one exponent.

    Forward: with m = `mantissa_bits` and E = floor(log2 max |x|) of a box, step = 2^(E - m + 1): x_q = step *
    clip(round_half_even(x / step), -(2^m - 1), 2^m - 1), a sign and m bits, no hidden one. A box lies along the input
    channels of one tap of a filter, or of one pixel, inside a group: a product of two boxes is one of integers.
    E lies in +-(2^(`exponent_bits` - 1) - 1); beyond, `overflow` says whether the box saturates or is NaN, as MX's.
    inputs=False leaves inputs real.
    Backward: rounding and clipping count as the identity; gradients are not rounded.
    Start: as the network's real weights.

    Presets: MSFP12 (m = 3) and MSFP16 (m = 7), boxes of 16, 4.5 and 8.5 bits a number with 8 of the exponent;
    BRAINWAVE: boxes of 128, exponents of 5 bits, here m = 3 (2 to 5 there); MXINT8: m = 7, boxes of 32, NaN beyond.
    Differences: whether the authors' exponents saturate, how they round, and how they round gradients was not read.
    Ties of MX's elements go to even here; microxcaling has that among its choices.
    Errors: ValueError for mantissa bits outside 1 ... 23, boxes below 1, exponent bits outside 2 ... 8.
    Packing: with real inputs as the float32 that the numbers stand for; rounded inputs are refused by name.
    Source: Brainwave, ISCA 2018; MSFP, NeurIPS 2020, of both of which summaries were read; microsoft/microxcaling.
    """

    def __init__(
        self,
        shape: LayerShape,
        *,
        mantissa_bits: int = 3,
        box: int = 16,
        exponent_bits: int = 8,
        overflow: Overflow = "saturate",
        inputs: bool = True,
    ) -> None:
        super().__init__(shape)
        check_choice("MSFP", "mantissa_bits", mantissa_bits, range(1, MOST_MANTISSA + 1))
        check_choice("MSFP", "exponent_bits", exponent_bits, range(2, 9))
        check_choice("MSFP", "overflow", overflow, ("saturate", "nan"))
        check_choice("MSFP", "inputs", inputs, (True, False))
        if not isinstance(box, int) or isinstance(box, bool) or box < 1:
            raise ValueError(f"MSFP: box must be an integer of at least 1; got {box!r}")
        self.mantissa_bits, self.box, self.inputs = mantissa_bits, box, inputs
        self.input_bits = 1 + mantissa_bits if inputs else REAL_BITS
        self._rounded = partial(block_float, exponent_bits=exponent_bits, overflow=overflow)

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(straight_through(self._rounded(w, self.mantissa_bits, self.box, 1), w))

    def weight_code(self) -> Floats:
        return Floats(1 + self.mantissa_bits, self._name())

    def input(self, x: Tensor) -> Quantized:
        if not self.inputs:
            return Quantized(x)
        groups = self.shape.groups
        grouped = x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])
        values = self._rounded(grouped, self.mantissa_bits, self.box, 2).flatten(1, 2)
        return Quantized(straight_through(values, x))

    def input_code(self) -> InputCode:
        return RealCode(rounded=self._name()) if self.inputs else RealCode()

    def _name(self) -> str:
        return f"boxes of {self.box} numbers that share an exponent"


MSFP12: Method = partial(MSFP, mantissa_bits=3)
"""1 + 3 bits, boxes of 16."""
MSFP16: Method = partial(MSFP, mantissa_bits=7)
"""1 + 7 bits, boxes of 16."""
BRAINWAVE: Method = partial(MSFP, mantissa_bits=3, box=128, exponent_bits=5)
"""Boxes of 128 with exponents of 5 bits; mantissas there have 2 to 5 bits."""
MXINT8: Method = partial(MSFP, mantissa_bits=7, box=32, overflow="nan")
"""The 8-bit integers of the MX formats."""
