# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers of integers on the CPU, by native code: all steps in one call."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, chosen_isa, threads
from bittern.ops.binary_block.layout import record_of
from bittern.ops.fixed_point_16 import logistic_table, tanh_table
from bittern.ops.integer_conv.cpu import rounded_twice
from bittern.ops.integer_recurrent.arguments import GRU, GateProduct, IntegerCell
from bittern.ops.integer_recurrent.reference import PRODUCT_BITS, outputs_of

UNIT = 16
"""Rows of gates that are summed side by side (kIntegerUnit)."""


def _records() -> tuple[np.dtype, np.dtype]:
    fields = _native.integer_recurrent_fields()
    product = record_of(fields["product"], {})
    return product, record_of(fields["layer"], {"input": product, "recurrent": product})


PRODUCT, LAYER = _records()


class PreparedIntegerRecurrent:
    """A layer with its weights laid out once for this CPU's kernel. Call as `integer_recurrent_reference`.

    The caller answers for sums that fit int32, multipliers that are not negative, and shifts in [-31, 30].
    """

    def __init__(self, cell: IntegerCell, isa: Isa | None = None) -> None:
        self.cell = cell
        self.isa = chosen_isa() if isa is None else isa
        self._record = np.zeros(1, LAYER)
        self._held = [
            *self._prepare("input", cell.input),
            *self._prepare("recurrent", cell.recurrent),
            *self._tables(),
        ]
        ends, r = cell.ends, self._record
        r["hidden"] = cell.recurrent.weight.shape[1]
        r["gated"], r["reverse"], r["clip"] = cell.cell == GRU, ends.reverse, ends.clip
        r["state_bits"] = PRODUCT_BITS + ends.exponent
        r["multiplier"], r["shift"] = ends.factor
        r["low"], r["high"] = ends.low, ends.high

    def _prepare(self, name: str, product: GateProduct) -> list[Tensor]:
        record = np.zeros(1, PRODUCT)
        record["rows"], record["features"] = product.weight.shape
        record["zero"] = product.zero
        bias = torch.zeros_like(product.multiplier) if product.bias is None else product.bias
        rows = bias, product.multiplier, product.shift
        addend, multiplier, shift = (row.long() for row in rows)
        record["ending"] = rounded_twice(product.weight, addend, multiplier, shift, product.zero)
        filled = [torch.cat([row, row.new_zeros(-len(row) % UNIT)]) for row in rows]  # the bias changes in place
        w = product.weight.contiguous()
        laid_out = torch.empty(_native.integer_recurrent_bytes(int(self.isa), record.ctypes.data), dtype=torch.int8)
        _native.integer_recurrent_prepare(
            int(self.isa), record.ctypes.data, w.data_ptr(), laid_out.data_ptr(), filled[0].data_ptr()
        )
        record["weights"] = laid_out.data_ptr()
        record["bias"], record["multipliers"], record["shifts"] = (row.data_ptr() for row in filled)
        self._record[name] = record
        return [laid_out, *filled]

    def _tables(self) -> list[Tensor]:
        ends = self.cell.ends
        found = {
            "logistic": logistic_table(ends.integer_bits),
            "tanh": tanh_table(ends.integer_bits),
            "tanh_of_state": tanh_table(15 + ends.exponent),
        }
        for name, table in found.items():
            self._record[name] = table.data_ptr()
        return list(found.values())

    def __call__(self, x: Tensor, hidden: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        record, rows = self._record.copy(), int(self._record["hidden"][0])
        x = x.contiguous()
        c = x.new_zeros((len(x), rows), dtype=torch.int16) if state is None else state.contiguous().clone()
        first = self._first(c, state) if hidden is None else hidden.contiguous()
        y = x.new_empty((*x.shape[:2], rows))
        record["batch"], record["steps"] = x.shape[:2]
        for name, tensor in (("x", x), ("first", first), ("state", c), ("out", y)):
            record[name] = tensor.data_ptr()
        _native.integer_recurrent(int(self.isa), threads(), record.ctypes.data)
        return y, c

    def _first(self, c: Tensor, state: Tensor | None) -> Tensor:
        """Outputs before the first step: the zero point, or what follows from the state of a GRU."""
        ends = self.cell.ends
        if state is None or self.cell.cell != GRU:
            return torch.full_like(c, ends.zero, dtype=torch.int8)
        return outputs_of(ends, c.long()).to(torch.int8)
