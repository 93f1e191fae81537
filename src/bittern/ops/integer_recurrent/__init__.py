# SPDX-License-Identifier: Apache-2.0
"""LSTM and GRU of int8 inputs, weights and outputs, with int16 gates and an int16 state: no float between."""

from __future__ import annotations

from bittern.ops.integer_recurrent.arguments import CellEnds, GateProduct, IntegerCell
from bittern.ops.integer_recurrent.cpu import PreparedIntegerRecurrent
from bittern.ops.integer_recurrent.reference import PreparedCell, integer_recurrent_reference

__all__ = [
    "CellEnds",
    "GateProduct",
    "IntegerCell",
    "PreparedCell",
    "PreparedIntegerRecurrent",
    "integer_recurrent_reference",
]
