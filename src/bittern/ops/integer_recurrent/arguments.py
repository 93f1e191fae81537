# SPDX-License-Identifier: Apache-2.0
"""What a recurrent layer of integers is made of."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from bittern.ops.fixed_point import Factor

LSTM, GRU = "lstm", "gru"
GATES = {LSTM: 4, GRU: 3}
"""Rows of weights: input, forget, cell and output gate of an LSTM; reset, update and new gate of a GRU."""


class GateProduct(NamedTuple):
    """M (W (x - zero) + bias) of all gates, in fixed point."""

    weight: Tensor
    """int8 [gates * hidden, features]."""
    bias: Tensor | None
    """int32 [gates * hidden]."""
    multiplier: Tensor
    """int32 [gates * hidden], as `shift`: from the scale of the sums to that of the gates."""
    shift: Tensor
    zero: int


class CellEnds(NamedTuple):
    """What becomes of gates and state."""

    integer_bits: int
    """Of gates: an int16 g stands for g / 2^(15 - integer_bits)."""
    exponent: int
    """Of the state: an int16 c stands for c * 2^exponent; -15 ... -9."""
    factor: Factor
    """From o * tanh(c) (LSTM, a product of 30 bits behind the point) or the state (GRU) to the scale of the output."""
    zero: int
    """Of the output, which the recurrent product reads."""
    low: int
    high: int
    clip: int
    """The state of an LSTM lies between -clip and clip; 0: it is not clipped."""
    reverse: bool
    """Whether it goes from the last step to the first."""


class IntegerCell(NamedTuple):
    """One layer in one direction."""

    cell: str
    """`LSTM` or `GRU`."""
    input: GateProduct
    recurrent: GateProduct
    ends: CellEnds
