# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers whose products are layers of their own, so that each can become low-bit; the gates stay real."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bittern.nn._check import check_floating
from bittern.nn.linear import BinaryLinear, QuantizedWeight
from bittern.nn.recurrent_steps import GRU_STEP, LSTM_STEP, State, StepRule
from bittern.quantizer import Method

LAYERS: tuple[type[nn.Module], ...] = (nn.LSTM, nn.GRU, nn.LSTMCell, nn.GRUCell)
"""Layers of torch that have a counterpart here, of the same name."""


class _Recurrent(nn.Module):
    """What cells and layers share: sizes, products of inputs and states, and torch's names of their parameters."""

    rule: StepRule

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(
                f"{type(self).__name__}: input_size and hidden_size must be at least 1; got {input_size} and "
                f"{hidden_size}"
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def _add(self, suffix: str, input_size: int, method: Method | None) -> None:
        """The products of one cell, of its input and of its state."""
        outputs = self.rule.gates * self.hidden_size
        for product, features in ((f"ih{suffix}", input_size), (f"hh{suffix}", self.hidden_size)):
            layer: nn.Module = (
                nn.Linear(features, outputs, self.bias)
                if method is None
                else BinaryLinear(features, outputs, self.bias, method=method)
            )
            self.add_module(product, layer)

    def reset_parameters(self) -> None:
        """Draw all as torch does, U(-b, b) with b = 1 / sqrt(hidden_size); a low-bit weight as its method starts."""
        bound = self.hidden_size**-0.5
        for product in self.children():
            if isinstance(product, BinaryLinear):
                product.reset_parameters()
            for name, parameter in product.named_parameters(recurse=False):
                if isinstance(product, nn.Linear) or name == "bias":
                    nn.init.uniform_(parameter, -bound, bound)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """As torch, and the parameters of a layer of torch get the names that they have here."""
        for name, _ in list(self.named_parameters()):
            old = f"{prefix}{name_in_torch(name)}"
            if old in state_dict:
                state_dict[f"{prefix}{name}"] = state_dict.pop(old)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _take_over(self, old: nn.Module) -> Self:
        """Share the parameters of the layer of torch whose place this one takes, its device, type and mode."""
        for name, _ in list(self.named_parameters()):
            layer, _, kind = name.rpartition(".")
            setattr(self.get_submodule(layer), kind, getattr(old, name_in_torch(name)))
        return self.train(old.training)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


def name_in_torch(name: str) -> str:
    """ih_l0.weight -> weight_ih_l0."""
    layer, _, kind = name.rpartition(".")
    return f"{kind}_{layer}"


def held_weight(product: nn.Module) -> tuple[QuantizedWeight, ...]:
    """What a low-bit layer is called with besides its input, to quantize its weight once for all steps of a sequence.

    () for another layer, and where something stands in for its product, as while a model is exported.
    """
    if type(product) is not BinaryLinear or "product" in vars(product):
        return ()
    return (product.quantized_weight(),)


class _Cell(_Recurrent):
    """One step: an input and a state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *, method: Method | None = None) -> None:
        super().__init__(input_size, hidden_size, bias)
        self._add("", input_size, method)
        self.reset_parameters()

    @classmethod
    def from_torch(cls, old: nn.Module) -> Self:
        """The same cell, which shares the parameters of the cell of torch. Raises: ValueError naming what it lacks."""
        _check_counterpart(cls, old)
        assert isinstance(old, (nn.LSTMCell, nn.GRUCell))
        with torch.device("meta"):  # draws no random numbers
            new = cls(old.input_size, old.hidden_size, old.bias)
        return new._take_over(old)

    def _step(self, x: Tensor, state: State | None) -> State:
        owner = type(self).__name__
        check_floating(owner, x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{owner}: expected an input [batch, {self.input_size}] or [{self.input_size}]; got {list(x.shape)}"
            )
        shape = (*x.shape[:-1], self.hidden_size)
        state = self._start(x, shape) if state is None else _checked(owner, state, shape)
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

    rule = LSTM_STEP

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

    rule = GRU_STEP

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """As torch names them: x and h."""
        (h,) = self._step(input, None if hx is None else (hx,))
        return h


class _Layers(_Recurrent):
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
            self._add(suffix, input_size if index < directions else directions * hidden_size, method)
        self.reset_parameters()

    @classmethod
    def from_torch(cls, old: nn.Module) -> Self:
        """The same layers, which share the parameters of those of torch. Raises: ValueError naming what is lacking."""
        _check_counterpart(cls, old)
        assert isinstance(old, nn.RNNBase)
        sizes = (old.input_size, old.hidden_size, old.num_layers, old.bias, old.batch_first)
        with torch.device("meta"):  # draws no random numbers
            new = cls(*sizes, 0.0 if old.num_layers == 1 else old.dropout, old.bidirectional)
        return new._take_over(old)

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
            states = _checked(type(self).__name__, states, shape if batched else (shape[0], shape[2]))
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

    rule = LSTM_STEP

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As torch names them: x and (h, c)."""
        y, (h, c) = self._run(input, hx)
        return y, (h, c)


class GRU(_Layers):
    """GRU layers, as torch.nn.GRU, whose products are layers of their own: ih_l0, hh_l0, ih_l0_reverse, ...

    As `LSTM`, with a state h alone. One step is that of `GRUCell`.
    Reference: arXiv 1406.1078.
    """

    rule = GRU_STEP

    def forward(self, input: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As torch names them: x and h."""
        y, (h,) = self._run(input, None if hx is None else (hx,))
        return y, h


COUNTERPARTS: dict[type[nn.Module], type[_Cell] | type[_Layers]] = {
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
}
"""Of `LAYERS`."""


def why_not(old: nn.Module) -> str:
    """Why no recurrent layer here computes what `old`, a layer of torch, does; "" when one does."""
    if type(old) not in COUNTERPARTS:
        return f"class {type(old).__name__} may compute something else than its base"
    if getattr(old, "proj_size", 0):
        return f"proj_size={old.proj_size} has no counterpart"
    return ""


def _check_counterpart(cls: type[nn.Module], old: nn.Module) -> None:
    problem = why_not(old)
    if not problem and COUNTERPARTS[type(old)] is not cls:
        problem = f"it takes the place of an nn.{cls.__name__}; got {type(old).__name__}"
    if problem:
        raise ValueError(f"{cls.__name__}: {problem}")


def _checked(owner: str, states: State, shape: tuple[int, ...]) -> State:
    """States of the right sizes. Raises: ValueError."""
    for state in states:
        if tuple(state.shape) != shape:
            raise ValueError(f"{owner}: a state must be {list(shape)}; got {list(state.shape)}")
    return states
