# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers over sequences of any length.

torch finds the shape of what `lstm`, `gru` and the plain cells give by going through the steps one after another, so
that torch.export takes their number for a constant. Where the length has a name, an operator with a shape of its own
stands in place of theirs while a model is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from bittern.deploy.front.call import Call, layer_name

FUNCTIONS: dict[Callable[..., Any], str] = {
    torch.lstm: "lstm.input",
    torch.gru: "gru.input",
    torch.rnn_tanh: "rnn_tanh.input",
    torch.rnn_relu: "rnn_relu.input",
}
"""What layers of torch call -> the operator that a program has of it."""

ARGUMENTS = (
    "input",
    "hx",
    "params",
    "has_biases",
    "num_layers",
    "dropout",
    "train",
    "bidirectional",
    "batch_first",
)
"""Those of all these operators."""

_LIBRARY = torch.library.Library("bittern_front", "FRAGMENT")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "recurrent(str operator, Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, "
    "float dropout, bool train, bool bidirectional, bool batch_first) -> Tensor[]"
)


def _shapes_alone(
    operator: str,
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Tensor]:
    """(results of all steps, states): the steps lie outermost in memory."""
    outer = input.transpose(0, 1) if batch_first else input
    steps = input.new_empty((*outer.shape[:-1], hx[0].shape[-1] * (2 if bidirectional else 1)))
    return [steps.transpose(0, 1) if batch_first else steps, *map(torch.empty_like, hx)]


torch.library.register_fake("bittern_front::recurrent", _shapes_alone, lib=_LIBRARY)
RECURRENT = torch.ops.bittern_front.recurrent.default


class RecurrentLayers(TorchFunctionMode):
    """Inside, recurrent layers of this thread call the operator."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in FUNCTIONS or len(args) != len(ARGUMENTS) or isinstance(args[2], Tensor):
            return func(*args, **kwargs)  # packed sequences have arguments of their own
        states = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
        return tuple(RECURRENT(FUNCTIONS[func], args[0], list(states), *args[2:]))


def recurrent_call(node: fx.Node, args: Sequence[Any], layers: nn.Module) -> Call:
    """The call of torch's own operator that such a node stands for."""
    operator, x, states, *rest = args
    values = (x, states if operator == FUNCTIONS[torch.lstm] else states[0], *rest)
    return Call(operator, layer_name(node, layers), node, dict(zip(ARGUMENTS, values, strict=True)))
