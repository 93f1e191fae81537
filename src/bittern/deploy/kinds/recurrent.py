# SPDX-License-Identifier: Apache-2.0
"""The node kind `recurrent`: an LSTM or a GRU of real numbers, one layer in one direction, samples first.

[batch, steps, features] -> [batch, steps, hidden], or with `state` the state behind the last step [batch, hidden]: the
cell state of an LSTM, the hidden state of a GRU. Initial states are two further inputs (LSTM: hidden, cell) or one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.footprint import FLOAT_BYTES
from bittern.deploy.kinds.kind import Kind, Step, choice, contiguous, flag, need_shape
from bittern.deploy.program import Node
from bittern.ops.integer_recurrent.arguments import GATES, GRU, LSTM

F32 = torch.float32
INPUTS = {LSTM: (1, 3), GRU: (1, 2)}


def _check(node: Node, tensors: Tensors) -> None:
    weight, recurrent = tensors["weight"], tensors["recurrent_weight"]
    cell = str(node.attrs["cell"])
    if weight.ndim != 2 or recurrent.ndim != 2 or 0 in (*weight.shape, *recurrent.shape):
        raise FormatError(f"node {node.name!r} (recurrent): its weights must have 2 dimensions, and numbers")
    if len(node.inputs) not in INPUTS[cell]:
        raise FormatError(f"node {node.name!r} (recurrent): {cell} takes {INPUTS[cell]} inputs; got {len(node.inputs)}")
    rows = GATES[cell] * recurrent.shape[1]
    need_shape(node, "weight", weight, (rows, weight.shape[1]))
    need_shape(node, "recurrent_weight", recurrent, (rows, recurrent.shape[1]))
    for role in ("bias", "recurrent_bias"):
        need_shape(node, role, tensors.get(role), (rows,))


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    weights = [tensors[role].to(device) for role in ("weight", "recurrent_weight")]
    zeros = weights[0].new_zeros(len(weights[0]))
    weights += [tensors[role].to(device) if role in tensors else zeros for role in ("bias", "recurrent_bias")]
    hidden, reverse, state = weights[1].shape[1], bool(node.attrs["reverse"]), bool(node.attrs["state"])
    options = (True, 1, 0.0, False, False, True)  # biases, one layer, no dropout, eval, one direction, samples first

    def step(x: Tensor, *initial: Tensor) -> Tensor:
        x = contiguous(x.flip(1) if reverse else x)
        states = [part.unsqueeze(0) for part in initial]
        zero = x.new_zeros(1, len(x), hidden)
        found: Sequence[Any]
        if node.attrs["cell"] == LSTM:
            found = torch.lstm(x, states or [zero, zero], weights, *options)
        else:
            found = torch.gru(x, states[0] if states else zero, weights, *options)
        if state:
            last: Tensor = found[-1][0]
            return last
        y: Tensor = found[0]
        return y.flip(1) if reverse else y

    return step


def _form(node: Node, tensors: Tensors, x: Form, *initial: Form) -> Form:
    need_real(node, x, 3)
    features, hidden = tensors["weight"].shape[1], tensors["recurrent_weight"].shape[1]
    fits = len(x.shape) == 3 and x.shape[2] == features and x.shape[1] > 0
    need(node, fits, f"it takes [batch, steps, {features}]; got {list(x.shape)}")
    for form in initial:
        need_real(node, form)
        need(node, form.shape == (1, hidden), f"its states have {hidden} numbers; got {list(form.shape)}")
    return Form((1, hidden) if node.attrs["state"] else (1, x.shape[1], hidden))


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Gates of all steps, several times."""
    steps, rows = inputs[0].shape[1], len(tensors["weight"])
    return 8 * FLOAT_BYTES * (math.prod(inputs[0].shape) + steps * rows + rows)


RECURRENT = Kind(
    name="recurrent",
    inputs=(1, 2, 3),
    attrs={"cell": choice(LSTM, GRU), "reverse": flag(default=False), "state": flag(default=False)},
    tensors={"weight": F32, "recurrent_weight": F32},
    optional={"bias": F32, "recurrent_bias": F32},
    check=_check,
    shape=_form,
    build=_build,
    working=_working,
)
"""Gates in torch's order: input, forget, cell, output; or reset, update, new, with the reset behind the product."""
