# SPDX-License-Identifier: Apache-2.0
"""Cells: one step of an LSTM and of a GRU, an input and a state."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from bittern.nn._check import check_floating
from bittern.nn.recurrent.base import Recurrent, checked_states
from bittern.nn.recurrent.steps import GRU_STEP, LSTM_STEP, State
from bittern.quantizer import Method


class _Cell(Recurrent):
    """One step: an input and a state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, method: Method | None = None) -> None:
        super().__init__(input_size, hidden_size, bias)
        self.add_products("", input_size, method)
        self.reset_parameters()

    @classmethod
    def from_torch(cls, old: nn.Module) -> Self:
        """The same cell, which shares the parameters of the cell of torch. Raises: ValueError naming what it lacks."""
        cls.check_counterpart(old)
        assert isinstance(old, (nn.LSTMCell, nn.GRUCell))
        with torch.device("meta"):  # draws no random numbers
            new = cls(old.input_size, old.hidden_size, old.bias)
        return new.take_over(old)

    def _step(self, x: Tensor, state: State | None) -> State:
        owner = type(self).__name__
        check_floating(owner, x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{owner}: expected an input [batch, {self.input_size}] or [{self.input_size}]; got {list(x.shape)}"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        state = self._start(x, shape) if state is None else checked_states(owner, state, shape)
        return self.rule.step(self.get_submodule("ih")(x), self.get_submodule("hh")(state[0]), state)

    def _start(self, x: Tensor, shape: tuple[int, ...]) -> State:
        return tuple(x.new_zeros(shape) for _ in range(self.rule.states))


class LSTMCell(_Cell):
    """One step of an LSTM, as torch.nn.LSTMCell, whose two products `ih` and `hh` are called as layers.

    x [batch, input_size] or [input_size], (h, c) each [batch, hidden_size], zeros if left out -> (h', c').

        i, f, g, o = the four parts of ih(x) + hh(h);  c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c')

    ih, hh: nn.Linear, or with a `method` a BinaryLinear; any module of these sizes may take the place of each. A
    state_dict of torch's cell (weight_ih) is taken too. Gates and states are real.
    Errors: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    Reference: Long Short-Term Memory (Hochreiter and Schmidhuber 1997), with forget gates (Gers et al. 2000).
    """

    rule, counterpart = LSTM_STEP, nn.LSTMCell

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """As torch names them: x and (h, c)."""
        h, c = self._step(input, hx)
        return h, c


class GRUCell(_Cell):
    """One step of a GRU, as torch.nn.GRUCell, whose two products `ih` and `hh` are called as layers.

    x [batch, input_size] or [input_size], h [batch, hidden_size], zeros if left out -> h'.

        a_r, a_z, a_n = the three parts of ih(x);  b_r, b_z, b_n = those of hh(h)
        r = sigmoid(a_r + b_r);  z = sigmoid(a_z + b_z);  n = tanh(a_n + r b_n);  h' = n + z (h - n)

    ih, hh: as in `LSTMCell`.
    Errors: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    Reference: arXiv 1406.1078.
    """

    rule, counterpart = GRU_STEP, nn.GRUCell

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """As torch names them: x and h."""
        (h,) = self._step(input, None if hx is None else (hx,))
        return h
