# SPDX-License-Identifier: Apache-2.0
"""One step of an LSTM and of a GRU, from the products of the input and of the state to the next state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""(h, c) of an LSTM, (h,) of a GRU."""


class StepRule(NamedTuple):
    """What a kind of cell does with its two products."""

    gates: int
    """Outputs of a product for each unit."""
    states: int
    """Tensors of a state, of which the first is h."""
    step: Callable[[Tensor, Tensor, State], State]
    """(product of the input, product of h, state) -> the next state."""


def _lstm(of_input: Tensor, of_state: Tensor, state: State) -> State:
    """i, f, g, o in this order, as torch has them.

    Each is a sum of its own and so lies without gaps: torch computes the ends of rows that have some by another
    sigmoid, a bit apart, and a packed program has no gaps.
    """
    i, f, g, o = (a + b for a, b in zip(of_input.chunk(4, -1), of_state.chunk(4, -1), strict=True))
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(of_input: Tensor, of_state: Tensor, state: State) -> State:
    """r, z, n in this order, as torch has them."""
    (a_r, a_z, a_n), (b_r, b_z, b_n) = of_input.chunk(3, -1), of_state.chunk(3, -1)
    n = torch.tanh(a_n + torch.sigmoid(a_r + b_r) * b_n)
    return (n + torch.sigmoid(a_z + b_z) * (state[0] - n),)


LSTM_STEP, GRU_STEP = StepRule(4, 2, _lstm), StepRule(3, 1, _gru)
