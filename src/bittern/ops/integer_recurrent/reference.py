# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers of integers in plain torch: the meaning.

W, R are int8 weights, x int8 inputs, h int8 outputs, gates and states int16; [v] is v held between -32768 and 32767,
M a fixed-point factor (`fixed_point.scaled`), a *n b the product a b / 2^n rounded to the nearest, halves away from
zero, s and t the logistic function and tanh (`fixed_point_16`). A gate is

    gate_k = [[Mx (W_k (x - zero_x) + b_k)] + Mh (R_k (h - zero_h) + r_k)]

    LSTM    c' = [s(forget) *15 c + s(input) *(30 + exponent) t(cell)], held between -clip and clip where there is one
            h' = zero_h + M s(output) t(c')
    GRU     n  = t([[Mx (W_n (x - zero_x) + b_n)] + s(reset) *15 [Mh (R_n (h - zero_h) + r_n)]])
            c' = [s(update) *15 c + (32767 - s(update)) *(30 + exponent) n]
            h' = zero_h + M c'

An LSTM is that of TensorFlow Lite (UNIDIRECTIONAL_SEQUENCE_LSTM, int8 with an int16 cell state), whose gates have 3
integer bits; bias and factors are one a row here. A GRU is torch's and ONNX's with linear_before_reset, the same
arithmetic; its state is an int16 beside the int8 output, so that small changes add up over many steps.

Sources: Hochreiter and Schmidhuber, Neural Computation 9(8), 1997; Cho et al., arXiv:1406.1078; TensorFlow Lite,
lstm_eval.cc (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bittern.ops.fixed_point import rounded_shift, scaled
from bittern.ops.fixed_point_16 import LEAST, MOST, logistic_table, tanh_table
from bittern.ops.integer_recurrent.arguments import GRU, LSTM, CellEnds, GateProduct, IntegerCell

PRODUCT_BITS = 30
"""Behind the point, of a product of two numbers without integer bits."""


def integer_recurrent_reference(
    cell: IntegerCell, x: Tensor, hidden: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """int8 x [batch, steps, features] -> (int8 outputs [batch, steps, hidden], int16 state [batch, hidden]).

    hidden: int8 [batch, hidden] before the first step, of an LSTM; None: 0, the output's zero point. state: int16
    [batch, hidden]; None: 0. The int8 of a GRU follows from its state.
    """
    return PreparedCell(cell, x.device)(x, hidden, state)


class PreparedCell:
    """A layer with its weights ready for products. Call as `integer_recurrent_reference`."""

    def __init__(self, cell: IntegerCell, device: torch.device) -> None:
        self.cell = cell
        self._of_input, self._of_hidden = _product(cell.input, device), _product(cell.recurrent, device)
        ends = cell.ends
        self._logistic = _by_table(logistic_table(ends.integer_bits), device)
        self._tanh = _by_table(tanh_table(ends.integer_bits), device)
        self._tanh_of_state = _by_table(tanh_table(15 + ends.exponent), device)
        self._step = self._lstm if cell.cell == LSTM else self._gru

    def __call__(self, x: Tensor, hidden: Tensor | None = None, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        ends, steps, rows = self.cell.ends, x.shape[1], self.cell.recurrent.weight.shape[1]
        c = x.new_zeros((len(x), rows), dtype=torch.int64) if state is None else state.long()
        if hidden is None and self.cell.cell == GRU and state is not None:
            h = outputs_of(ends, c)
        else:
            h = torch.full_like(c, ends.zero) if hidden is None else hidden.long()
        given = _int16(self._of_input(x))
        y = x.new_empty((len(x), steps, rows))
        for step in reversed(range(steps)) if ends.reverse else range(steps):
            h, c = self._step(given[:, step], h, c)
            y[:, step] = h
        return y, c.to(torch.int16)

    def _lstm(self, given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        ends = self.cell.ends
        into, forget, new, out = _int16(given + self._of_hidden(h)).chunk(4, 1)
        kept = rounded_shift(self._logistic(forget) * c, 15)
        added = rounded_shift(self._logistic(into) * self._tanh(new), PRODUCT_BITS + ends.exponent)
        c = _int16(kept + added)
        c = c.clamp(-ends.clip, ends.clip) if ends.clip else c
        return outputs_of(ends, self._logistic(out) * self._tanh_of_state(c)), c

    def _gru(self, given: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        own, rows = self._of_hidden(h), c.shape[1]
        reset, update = self._logistic(_int16(given[:, : 2 * rows] + own[:, : 2 * rows])).chunk(2, 1)
        new = self._tanh(_int16(given[:, 2 * rows :] + rounded_shift(reset * _int16(own[:, 2 * rows :]), 15)))
        kept = rounded_shift(update * c, 15)
        added = rounded_shift((MOST - update) * new, PRODUCT_BITS + self.cell.ends.exponent)
        c = _int16(kept + added)
        return outputs_of(self.cell.ends, c), c


def outputs_of(ends: CellEnds, x: Tensor) -> Tensor:
    """h' of the numbers behind M: o * tanh(c) of an LSTM, the state of a GRU; int64 that int8 holds."""
    return (scaled(x, *ends.factor) + ends.zero).clamp(ends.low, ends.high)


def _int16(x: Tensor) -> Tensor:
    return x.clamp(LEAST, MOST)


def _by_table(table: Tensor, device: torch.device) -> Callable[[Tensor], Tensor]:
    entries = table.to(device)
    return lambda x: entries[x - LEAST].long()


def _product(product: GateProduct, device: torch.device) -> Callable[[Tensor], Tensor]:
    """x [..., features] -> the factor times the sums, int64."""
    turned = product.weight.to(device).double().t().contiguous()
    multiplier, shift = (part.to(device).long() for part in (product.multiplier, product.shift))
    bias = 0 if product.bias is None else product.bias.to(device).long()

    def call(x: Tensor) -> Tensor:
        return scaled(((x.double() - product.zero) @ turned).long() + bias, multiplier, shift)

    return call
