# SPDX-License-Identifier: Apache-2.0
"""Layers: cells over a sequence, one above the other, in one direction or both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bittern.nn._check import check_floating
from bittern.nn.linear import BinaryLinear, QuantizedWeight
from bittern.nn.recurrent.base import Recurrent, checked_states
from bittern.nn.recurrent.steps import GRU_STEP, LSTM_STEP, State
from bittern.quantizer import Method


def held_weight(product: nn.Module) -> tuple[QuantizedWeight, ...]:
    """What a low-bit layer is called with besides its input, to quantize its weight once for all steps of a sequence.

    () for another layer, and where something stands in for its product, as while a model is exported.
    """
    if type(product) is not BinaryLinear or "product" in vars(product):
        return ()
    return (product.quantized_weight(),)


class _Layers(Recurrent):
    """Cells over a sequence, in layers, in one direction or both."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        method: Method | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        owner = type(self).__name__
        if num_layers < 1:
            raise ValueError(f"{owner}: num_layers must be at least 1; got {num_layers}")
        if not 0.0 <= dropout <= 1.0 or (dropout and num_layers == 1):
            raise ValueError(
                f"{owner}: dropout is between layers, from 0 to 1; got dropout={dropout} and num_layers={num_layers}"
            )
        self.num_layers, self.batch_first, self.dropout = num_layers, batch_first, float(dropout)
        self.bidirectional = bidirectional
        directions = 2 if bidirectional else 1
        for index, suffix in enumerate(self._suffixes()):
            self.add_products(suffix, input_size if index < directions else directions * hidden_size, method)
        self.reset_parameters()

    @classmethod
    def from_torch(cls, old: nn.Module) -> Self:
        """The same layers, which share the parameters of those of torch. Raises: ValueError naming what is lacking."""
        cls.check_counterpart(old)
        assert isinstance(old, nn.RNNBase)
        sizes = (old.input_size, old.hidden_size, old.num_layers, old.bias, old.batch_first)
        with torch.device("meta"):  # draws no random numbers
            new = cls(*sizes, 0.0 if old.num_layers == 1 else old.dropout, old.bidirectional)
        return new.take_over(old)

    def flatten_parameters(self) -> None:
        """Nothing: forwards written for torch's layers call it, whose weights a GPU wants in one piece."""

    def _suffixes(self) -> Iterator[str]:
        """Of the names of products, layer by layer, the backward direction behind the forward one."""
        for layer in range(self.num_layers):
            yield f"_l{layer}"
            if self.bidirectional:
                yield f"_l{layer}_reverse"

    def _run(self, x: Tensor, states: State | None) -> tuple[Tensor, State]:
        """All layers over x -> the results of all steps, and the last states."""
        rows, batched = self._rows(x)
        shape = (self.num_layers * (2 if self.bidirectional else 1), rows.shape[1], self.hidden_size)
        if states is None:
            states = tuple(rows.new_zeros(shape) for _ in range(self.rule.states))
        else:
            states = checked_states(type(self).__name__, states, shape if batched else (shape[0], shape[2]))
            states = states if batched else tuple(s.unsqueeze(1) for s in states)
        last: list[State] = []
        suffixes = list(self._suffixes())
        for layer in range(self.num_layers):
            if layer:
                rows = F.dropout(rows, self.dropout, self.training)
            outputs = []
            for suffix in (s for s in suffixes if s.partition("_reverse")[0] == f"_l{layer}"):
                start = tuple(s[len(last)] for s in states)
                output, state = self._direction(rows, start, suffix)
                outputs.append(output)
                last.append(state)
            rows = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        ends = tuple(torch.stack([state[i] for state in last]) for i in range(self.rule.states))
        if not batched:
            return rows.squeeze(1), tuple(s.squeeze(1) for s in ends)
        return rows.transpose(0, 1) if self.batch_first else rows, ends

    def _direction(self, x: Tensor, state: State, suffix: str) -> tuple[Tensor, State]:
        """One cell over x [length, batch, features], which the backward direction reads from its end."""
        recurrent = self.get_submodule(f"hh{suffix}")
        weight = held_weight(recurrent)
        gates = self.get_submodule(f"ih{suffix}")(x)
        backward = suffix.endswith("_reverse")
        results: list[Tensor] = []
        for step in gates.flip(0).unbind(0) if backward else gates.unbind(0):
            state = self.rule.step(step, recurrent(state[0], *weight), state)
            results.append(state[0])
        return torch.stack(results[::-1] if backward else results), state

    def _rows(self, x: Tensor) -> tuple[Tensor, bool]:
        """x as [length, batch, input_size], and whether it had a batch. Raises: ValueError, TypeError."""
        owner = type(self).__name__
        if isinstance(x, PackedSequence):
            raise TypeError(
                f"{owner}: packed sequences are not taken; call it on padded ones, and on each length by itself where "
                "the last state or the backward direction matters"
            )
        check_floating(owner, x)
        batched = x.ndim == BATCHED
        if x.ndim not in (BATCHED - 1, BATCHED) or x.shape[-1] != self.input_size:
            order = "batch, length" if self.batch_first else "length, batch"
            raise ValueError(
                f"{owner}: expected an input [{order}, {self.input_size}] or [length, {self.input_size}]; "
                f"got {list(x.shape)}"
            )
        rows = x.unsqueeze(1) if not batched else x.transpose(0, 1) if self.batch_first else x
        if rows.shape[0] == 0:
            raise ValueError(f"{owner}: a sequence must have at least one step; got {list(x.shape)}")
        return rows, batched

    def extra_repr(self) -> str:
        options = f"num_layers={self.num_layers}, batch_first={self.batch_first}, dropout={self.dropout}"
        return f"{super().extra_repr()}, {options}, bidirectional={self.bidirectional}"


BATCHED = 3
"""Dimensions of a sequence with a batch."""


class LSTM(_Layers):
    """LSTM layers, as torch.nn.LSTM, whose products are layers of their own: ih_l0, hh_l0, ih_l0_reverse, ...

    x [length, batch, input_size] ([batch, length, ...] with batch_first; no batch: two dimensions), (h, c) each
    [num_layers (* 2 if bidirectional), batch, hidden_size], zeros if left out -> the results of all steps
    [length, batch, hidden_size (* 2)], and (h, c) behind the last step. One step is that of `LSTMCell`.

    Products of inputs are one call for all steps, those of states one call a step; a low-bit weight is quantized once a
    sequence. Products are nn.Linear, or with a `method` BinaryLinear; any module of these sizes may take the place of
    each. A state_dict of torch's layers (weight_ih_l0) is taken too. Gates and states are real.
    Differences: no proj_size, and no packed sequences, which are refused by name.
    Errors: ValueError for sizes that do not fit and a sequence without a step; TypeError for packed sequences and
    inputs that are not floating point.
    Reference: as `LSTMCell`.
    """

    rule, counterpart = LSTM_STEP, nn.LSTM

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As torch names them: x and (h, c)."""
        y, (h, c) = self._run(input, hx)
        return y, (h, c)


class GRU(_Layers):
    """GRU layers, as torch.nn.GRU, whose products are layers of their own: ih_l0, hh_l0, ih_l0_reverse, ...

    As `LSTM`, with a state h alone. One step is that of `GRUCell`.
    Reference: arXiv 1406.1078.
    """

    rule, counterpart = GRU_STEP, nn.GRU

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As torch names them: x and h."""
        y, (h,) = self._run(input, None if hx is None else (hx,))
        return y, h
